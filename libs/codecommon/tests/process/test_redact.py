from __future__ import annotations

import base64
import logging
import random
import time
from urllib.parse import quote

import pytest

from codecommon.process.redact import REDACTED, Redactor, redact

CLASSIC = "ghp_" + "aB3" * 12
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl-_x"
OLD = "0123456789abcdef0123456789abcdef01234567"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\nYWJjZGVm\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"bad credential {CLASSIC} given", CLASSIC),
        ("gho_" + "a" * 36, "a" * 36),
        ("ghu_" + "a" * 36, "a" * 36),
        ("ghr_" + "a" * 36, "a" * 36),
        ("ghs_12_" + JWT, "c2lnbmF0dXJl"),
        ("github_pat_11ABCDEFG0abcdefgh_ijklmnop", "ijklmnop"),
        ("cut short: ghp_aB3aB3", "aB3aB3"),
        (repr(f"x\n{CLASSIC}"), CLASSIC),
        (f"prefix{CLASSIC}", CLASSIC),
        (f"Authorization: Bearer {JWT}", "c2lnbmF0dXJl"),
        ("Authorization: token hunter2", "hunter2"),
        ("authorization: basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("{'Authorization': 'Bearer hunter2'}", "hunter2"),
        ("(b'authorization', b'Bearer hunter2')", "hunter2"),
        ('"Authorization":"Bearer hunter2"', "hunter2"),
        ("Proxy-Authorization: Basic hunter2", "hunter2"),
        ("sent Bearer abcdefgh12345678", "abcdefgh12345678"),
        ("https://user:hunter2@ghe.example/x", "hunter2"),
        ("https://hunter2hunter2@ghe.example/x", "hunter2"),
        ("https://ghe.example/x?access_token=hunter2&a=b", "hunter2"),
        ("/cb?code=hunter2&state=1", "hunter2"),
        ("token=hunter2, next", "hunter2"),
        ("client_secret='hunter2'", "hunter2"),
        ('{"access_token": "hunter2"}', "hunter2"),
        ('{\\"refresh_token\\":\\"hunter2\\"}', "hunter2"),
        (f"the token {OLD} was refused", OLD),
        (f"Authorization header with credential: {OLD}", OLD),
        (KEY, "YWJjZGVm"),
        (KEY[:60], "b3BlbnNz"),
        (repr(KEY), "YWJjZGVm"),
        (f"a {JWT}.", "eyJzdWIiOiJ4In0"),
        ("data: {token: " + base64.b64encode(CLASSIC.encode()).decode() + "}", "Z2hwX2FCM2FC"),
    ],
)
def test_a_secret_is_taken_out(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in redact(text)
    assert REDACTED in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        f"checked out {OLD}",
        f'{{"sha": "{OLD}"}}',
        "GET /repos/acme/web answered 404",
        "git@github.com:acme/web.git",
        "ssh://git@ghe.example:2222/acme/web.git",
        "https://github.com/acme/web/blob/main/a@b.py",
        "mail octocat@github.com",
        "tokens begin with ghp_, gho_ or github_pat_",
        "basic authentication failed",
        "the bearer token is invalid",
        "the token lacks the scope delete_repo; it has repo",
        "Secret default/github has no key 'token'",
        "exit code=2",
        "weighs_total 7",
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_what_people_need_to_read_stays(text: str) -> None:
    assert redact(text) == text


def test_the_text_around_a_secret_stays() -> None:
    assert redact(f"GET https://u:p@ghe.example/x with {CLASSIC}: 401") == (
        f"GET https://{REDACTED}@ghe.example/x with {REDACTED}: 401"
    )


def test_redacting_twice_changes_nothing_more() -> None:
    pieces = [
        CLASSIC,
        JWT,
        OLD,
        KEY,
        "Authorization: ",
        "Bearer ",
        "token=",
        "'",
        '"',
        "b'",
        "https://",
        "u:p@",
        " ",
        "\n",
        ",",
    ]
    chooser = random.Random(7)
    for _ in range(3000):
        once = redact("".join(chooser.choices(pieces, k=6)))
        assert redact(once) == once


@pytest.mark.parametrize(
    "unit",
    [
        "://",
        "eyJ",
        "ghp_",
        "token",
        "'token",
        "bearer ",
        "authorization",
        "Authorization: Bearer ",
        "-----BEGIN A PRIVATE KEY-----",
    ],
)
def test_hostile_text_costs_time_in_proportion_to_its_length(unit: str) -> None:
    text = unit * (400_000 // len(unit)) + "@"
    started = time.process_time()
    redact(text)
    assert time.process_time() - started < 2


def test_a_registered_value_is_taken_out_in_every_encoding() -> None:
    value = "pa ss/wörd+1&x"
    redactor = Redactor(value)
    for form in (
        value,
        base64.b64encode(value.encode()).decode(),
        base64.urlsafe_b64encode(value.encode()).decode(),
        quote(value, safe=""),
        repr({"v": value}),
    ):
        assert REDACTED in redactor(f"<{form}>")
    newline = base64.b64encode(f"{value}\n".encode()).decode()
    assert newline[:12] not in redactor(newline)


def test_a_redactor_also_knows_the_shapes() -> None:
    assert CLASSIC not in Redactor("something-else")(CLASSIC)


def test_the_oldest_values_give_way() -> None:
    redactor = Redactor(*(f"secret-value-{number}" for number in range(5)), limit=2)
    shown = [number for number in range(5) if redactor(f"[secret-value-{number}]") != f"[{REDACTED}]"]
    assert shown == [0, 1, 2]


def test_a_value_as_short_as_a_word_does_not_shred_the_text() -> None:
    assert Redactor("main")("branch main") == "branch main"


def test_a_redactor_does_not_show_what_it_knows() -> None:
    assert "correct-horse" not in repr(Redactor("correct-horse"))


def test_an_exception_logged_with_a_secret_comes_out_clean() -> None:
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "call with %s", (CLASSIC,), None)
    assert CLASSIC not in redact(logging.Formatter().format(record))
