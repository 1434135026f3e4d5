from __future__ import annotations

import logging

import pytest

from codecommon.api.results import Terminal
from codecommon.githost.address import HostAddress
from codecommon.githost.github.api import GITHUB_API
from codecommon.githost.github.provider import LIMITS, GithubProvider

GITHUB = HostAddress(
    GITHUB_API, "https://api.github.com", "github.com", "github.com", limits=LIMITS, operator_named=False
)


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "https://github.com",
        "https://github.com/",
        "https://GitHub.com.",
        "https://github.com:443",
        "https://api.github.com",
        "https://api.github.com/api/v3/",
    ],
)
def test_every_spelling_of_github_leads_to_its_api(base_url: str) -> None:
    assert GithubProvider().address(base_url) == GITHUB


@pytest.mark.parametrize(
    "base_url", ["https://octo.ghe.com", "https://api.octo.ghe.com", "https://OCTO.ghe.com/api/v3"]
)
def test_data_residency_has_an_api_host_of_its_own(base_url: str) -> None:
    expected = HostAddress(
        GITHUB_API, "https://api.octo.ghe.com", "octo.ghe.com", "*.ghe.com", limits=LIMITS, operator_named=False
    )
    assert GithubProvider().address(base_url) == expected


@pytest.mark.parametrize(
    ("entry", "base_url", "root", "host"),
    [
        ("ghe.example", "https://ghe.example", "https://ghe.example/api/v3", "ghe.example"),
        ("ghe.example", "https://ghe.example/api/v3/", "https://ghe.example/api/v3", "ghe.example"),
        ("http://GHE.example", "http://GHE.example.:80/", "http://ghe.example/api/v3", "ghe.example"),
        ("GHE.Example.", "https://ghe.example", "https://ghe.example/api/v3", "ghe.example"),
        ("ghe.example:443", "https://ghe.example", "https://ghe.example/api/v3", "ghe.example"),
        ("ghe.example:8443", "https://ghe.example:8443", "https://ghe.example:8443/api/v3", "ghe.example:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", "http://127.0.0.1:8080/api/v3", "127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[0:0::1]:8080", "http://[::1]:8080/api/v3", "[::1]:8080"),
        ("HTTP://git_hub:3000", "http://git_hub:3000", "http://git_hub:3000/api/v3", "git_hub:3000"),
        (
            "bücher.example",
            "https://xn--bcher-kva.example",
            "https://xn--bcher-kva.example/api/v3",
            "xn--bcher-kva.example",
        ),
        (
            "xn--bcher-kva.example",
            "https://BÜCHER.example",
            "https://xn--bcher-kva.example/api/v3",
            "xn--bcher-kva.example",
        ),
    ],
)
def test_a_host_the_operator_named_is_reached_at_its_api_root(entry: str, base_url: str, root: str, host: str) -> None:
    expected = HostAddress(GITHUB_API, root, host, host, limits=None, operator_named=True)
    assert GithubProvider([entry]).address(base_url) == expected


@pytest.mark.parametrize(
    "base_url",
    [
        "https://evil.example",
        "https://github.com.evil.example",
        "https://evilgithub.com",
        "https://ghe.com",
        "https://api.ghe.com",
        "https://a.b.ghe.com",
        "https://octo.ghe.com.evil.example",
        "http://github.com",
        "http://octo.ghe.com",
        "http://ghe.example",
        "http://ghe.example:443",
        "https://github.com:8443",
        "https://ghe.example:8443",
        "https://169.254.169.254",
        "https://2130706433",
        "https://[::1]",
        "https://ghe.example@evil.example",
        "https://ghe.example:pass@ghe.example",
        "https://ghe.example\\@evil.example",
        "https://ghe.example%2eevil.example",
        "https://ghe.example/api/v3/../../x",
        "https://ghe.example/elsewhere",
        "https://ghe.example?x=1",
        "https://ghe.example?",
        "https://ghe.example#x",
        "https://ghe.example:0x50",
        "https://ghe.example:99999",
        "https://ghe.example..",
        "https://ghe example",
        "https://ghe.example\nx",
        " https://ghe.example",
        "https://",
        "https:///api/v3",
        "ghe.example",
        "ftp://ghe.example",
        "file:///etc/passwd",
        "https://[::1%25eth0]",
        "https://ghe.exampleK",
    ],
)
def test_a_credential_cannot_be_sent_anywhere_else(base_url: str) -> None:
    with pytest.raises(Terminal) as refused:
        GithubProvider(["ghe.example"]).address(base_url)
    assert refused.value.reason == "HostNotAllowed"


def test_an_entry_for_plain_http_admits_no_https_and_no_other_port() -> None:
    allowed = GithubProvider(["http://ghe.example:8080"])
    for base_url in ("https://ghe.example:8080", "https://ghe.example", "http://ghe.example"):
        with pytest.raises(Terminal, match="nor allowed here"):
            allowed.address(base_url)


def test_the_refusal_of_plain_http_says_so() -> None:
    with pytest.raises(Terminal, match=r"add http://ghe\.example to CODE_ALLOWED_GIT_HOSTS"):
        GithubProvider(["ghe.example"]).address("http://ghe.example")


def test_the_refusal_says_what_to_ask_the_operator_for() -> None:
    with pytest.raises(Terminal, match=r"add ghe\.example:8443 to CODE_ALLOWED_GIT_HOSTS"):
        GithubProvider().address("https://GHE.example:8443")


def test_a_password_in_the_url_is_not_repeated() -> None:
    with pytest.raises(Terminal) as refused:
        GithubProvider().address("https://user:hunter2@ghe.example")
    assert "hunter2" not in str(refused.value)


def test_a_refused_host_is_logged_once_and_ready_to_paste(caplog: pytest.LogCaptureFixture) -> None:
    allowed = GithubProvider(["b.example", "a.example:1"])
    with caplog.at_level(logging.WARNING):
        for base_url in ("https://c.example", "https://C.example./", "https://c.example"):
            with pytest.raises(Terminal):
                allowed.address(base_url)
    assert [record.getMessage().partition("it: ")[2] for record in caplog.records] == [
        "CODE_ALLOWED_GIT_HOSTS=a.example:1,b.example,c.example"
    ]


def test_a_tenant_cannot_fill_the_log_with_hosts(caplog: pytest.LogCaptureFixture) -> None:
    allowed = GithubProvider()
    with caplog.at_level(logging.WARNING):
        for number in range(1000):
            with pytest.raises(Terminal):
                allowed.address(f"https://h{number}.example")
    assert len(caplog.records) == 256


@pytest.mark.parametrize(
    "entry", ["https://ghe.example", "ghe.example/api/v3", "u@ghe.example", "", "a b", "x:y", "*.example"]
)
def test_an_entry_of_another_form_is_an_error_of_configuration(entry: str) -> None:
    with pytest.raises(ValueError, match="not of the form host"):
        GithubProvider([entry])
