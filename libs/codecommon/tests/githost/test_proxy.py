from __future__ import annotations

import httpx
import pytest

from codecommon.githost.http.proxy import ProxyRules

RULES = ProxyRules(
    "http://plain.proxy:1", "http://tls.proxy:2", ("ghe.example", ".corp", "10.0.0.0/8", "a.b:8443", "[fd00::1]", "*.z")
)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://api.github.com/user", "http://tls.proxy:2"),
        ("http://other.example/", "http://plain.proxy:1"),
        ("https://ghe.example/", None),
        ("https://sub.ghe.example/", None),
        ("https://notghe.example/", "http://tls.proxy:2"),
        ("https://x.corp/", None),
        ("https://corp/", "http://tls.proxy:2"),
        ("https://10.1.2.3/", None),
        ("https://11.1.2.3/", "http://tls.proxy:2"),
        ("https://a.b:8443/", None),
        ("https://a.b/", "http://tls.proxy:2"),
        ("https://[fd00::1]/", None),
        ("https://y.z/", None),
        ("http://localhost:8080/", None),
        ("http://127.0.0.1:8080/", None),
        ("http://[::1]:8080/", None),
    ],
)
def test_the_rules_are_those_of_today_s_provider(url: str, proxy: str | None) -> None:
    assert RULES.proxy_for(httpx.URL(url)) == proxy


def test_a_star_means_no_proxy_at_all() -> None:
    assert ProxyRules(https="http://p:1", direct=("*",)).proxy_for(httpx.URL("https://api.github.com")) is None


def test_the_environment_is_read_in_both_spellings() -> None:
    environ = {"https_proxy": "proxy.corp:3128", "HTTPS_PROXY": "other:1", "NO_PROXY": "A.example, ,b.example"}
    assert ProxyRules.from_environ(environ) == ProxyRules(None, "http://proxy.corp:3128", ("a.example", "b.example"))


@pytest.mark.parametrize("value", ["socks5://user:hunter2@p:1", "http://user:hunter2@p:port", "http://"])
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(value: str) -> None:
    with pytest.raises(ValueError, match="HTTPS_PROXY") as refused:
        ProxyRules.from_environ({"https_proxy": value})
    assert "hunter2" not in str(refused.value)
