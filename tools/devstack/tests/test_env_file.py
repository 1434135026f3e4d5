"""``.env`` of ``make up``: what is taken, and what a person is told about a line that cannot be used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from devstack import connect_with_github
from devstack.env_file import NAMES, EnvFile
from devstack.errors import StackError
from devstack.paths import REPOSITORY
from devstack.settings import Settings

EXAMPLE = (REPOSITORY / ".env.example").read_text()


def read(folder: Path, text: str) -> EnvFile:
    path = folder / ".env"
    path.write_text(text)
    return EnvFile.read(path)


def test_without_a_file_there_are_no_settings(tmp_path: Path) -> None:
    assert EnvFile.read(tmp_path / ".env").values == {}


def test_comments_quotes_export_and_blank_lines_are_understood_and_nothing_is_put_in(tmp_path: Path) -> None:
    text = "# mine\n\nexport GITHUB_OWNER='octo'  # who\n\nGITHUB_TOKEN=\"a#b ${HOME}\"\nCODE_LOG_LEVEL=\nOTEL_X=1\n"

    found = read(tmp_path, text)

    assert found.values == {"GITHUB_OWNER": "octo", "GITHUB_TOKEN": "a#b ${HOME}", "OTEL_X": "1"}
    assert found.lines == {"GITHUB_OWNER": 3, "GITHUB_TOKEN": 5, "OTEL_X": 7}
    assert "a#b" not in repr(found)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("GITHUB_OAUTH_CLIENTID=a", "GITHUB_OAUTH_CLIENTID is not known; did you mean GITHUB_OAUTH_CLIENT_ID?"),
        ("github_token=a", "its name is not known; did you mean GITHUB_TOKEN?"),
        ("COLOUR=a", "COLOUR is not known; .env.example lists what is"),
        ("GITHUB_TOKEN", "GITHUB_TOKEN has no value; write GITHUB_TOKEN=value, or remove the line"),
        ("ghp_s3cret=", "its name is not known; .env.example lists what is"),
        (f"{'S3CRET' * 11}=", "its name is not known; .env.example lists what is"),
        ("ghp_s3cret", "it is not NAME=value; put a value with spaces or # in quotes, and close every quote"),
        ("s3cret words here", "it is not NAME=value; put a value with spaces or # in quotes, and close every quote"),
        ("GITHUB_TOKEN='s3cret", "it is not NAME=value; put a value with spaces or # in quotes, and close every quote"),
        ("GITHUB_OWNER=s3cret", "GITHUB_OWNER is set in line 1, too; remove one of them"),
    ],
)
def test_a_bad_line_is_named_with_what_to_do_and_without_its_value(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(StackError) as raised:
        read(tmp_path, f"GITHUB_OWNER=octo\n\n{line}\n")

    assert str(raised.value) == f".env, line 3: {told}"


def test_all_bad_lines_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(StackError) as raised:
        read(tmp_path, "A=1\nGITHUB_OWNER=octo\nB=2\n")

    assert re.findall(r"line (\d)", str(raised.value)) == ["1", "3"]


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    with pytest.raises(StackError, match=r"^\.env cannot be read: "):
        EnvFile.read(tmp_path / ".env")


APP = "GITHUB_OAUTH_CLIENT_ID=id\nGITHUB_OAUTH_CLIENT_SECRET=s3cret\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            f"{APP}GITHUB_OAUTH_REDIRECT_URL=https://127.0.0.1:8443/oauth\n",
            r"^\.env, line 3: GITHUB_OAUTH_REDIRECT_URL: its path does not end with /callback; accepted: ",
        ),
        (
            f"{APP}GITHUB_OAUTH_REDIRECT_URL=http://localhost:8443{connect_with_github.PATH}/callback\n",
            r"^\.env, line 3: GITHUB_OAUTH_REDIRECT_URL leads to the development hub, .* write https://localhost:<port>",
        ),
        (f"{APP}\nGITHUB_OAUTH_PORTAL_ORIGIN=*\n", r"^\.env, line 4: GITHUB_OAUTH_PORTAL_ORIGIN is \*"),
        (f"{APP}GITHUB_OAUTH_BASE_URL=ghe\n", r"^\.env, line 3: GITHUB_OAUTH_BASE_URL: not the URL of a host"),
        ("GITHUB_OAUTH_CLIENT_ID=id\n", r"^GITHUB_OAUTH_CLIENT_SECRET not set \(.*\.env\.example"),
        ("CODE_DEV_KUBECONFIG=/none\n", r"^\.env, line 1: CODE_DEV_KUBECONFIG=/none: there is no such file"),
        ("\nGITHUB_OWNER=octo\n", r"^\.env, line 2: GITHUB_OWNER is set but GITHUB_TOKEN is not"),
    ],
)
def test_a_wrong_value_is_told_with_its_line_before_anything_starts(tmp_path: Path, text: str, told: str) -> None:
    found = read(tmp_path, text)
    with pytest.raises(StackError) as raised:
        connect_with_github.check(Settings.from_environ(found.values).oauth)

    assert re.search(told, found.explain(raised.value, {}))
    assert "s3cret" not in str(raised.value)


def test_a_line_is_not_blamed_for_what_the_shell_says(tmp_path: Path) -> None:
    found = read(tmp_path, "GITHUB_OWNER=octo\n")

    assert found.explain(StackError("GITHUB_OWNER is wrong"), {"GITHUB_OWNER": "x"}) == "GITHUB_OWNER is wrong"


def test_the_example_explains_every_setting_and_can_be_used_line_by_line(tmp_path: Path) -> None:
    blocks = [block for block in EXAMPLE.split("\n\n") if re.search("^# [A-Z_]+=", block, re.MULTILINE)]
    named = []
    for block in blocks:
        *explained, setting = block.strip().splitlines()
        assert explained, block
        assert all(line.startswith("# ") for line in explained)
        (name,) = read(tmp_path, f"{setting.removeprefix('# ')}\n").values
        named.append(name)

    explained_in_capitals = [name for name in NAMES if name.isupper()]
    assert sorted(named) == sorted([*explained_in_capitals, "OTEL_EXPORTER_OTLP_ENDPOINT"])
    assert read(tmp_path, EXAMPLE).values == {}


def test_an_app_that_is_set_up_as_the_example_says_works(tmp_path: Path) -> None:
    text = "\n".join(re.findall("^# (GITHUB_OAUTH_[A-Z_]+=.*)$", EXAMPLE, re.MULTILINE))

    connect_with_github.check(read(tmp_path, text).values)


def test_git_never_takes_the_file_along() -> None:
    assert "/.env" in (REPOSITORY / ".gitignore").read_text().splitlines()
