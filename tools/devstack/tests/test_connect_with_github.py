"""What the gateway of ``make up`` is told for Connect with GitHub."""

from __future__ import annotations

from pathlib import Path

import pytest

from devstack import connect_with_github
from devstack.connect_with_github import PATH
from devstack.demo import __main__ as demo
from devstack.errors import StackError
from devstack.simulator import SimulatorProcess

HUB = "https://127.0.0.1:9443"
APP = {"GITHUB_OAUTH_CLIENT_ID": "id", "GITHUB_OAUTH_CLIENT_SECRET": "s3cret"}


async def test_an_own_app_is_used_as_it_is_with_the_hub_as_the_callback() -> None:
    oauth = await connect_with_github.environment(APP, HUB, None)

    assert oauth == {**APP, "GITHUB_OAUTH_REDIRECT_URL": f"{HUB}{PATH}/callback"}
    assert connect_with_github.start_url(oauth) == f"{HUB}{PATH}/start"


@pytest.mark.slow
async def test_without_an_own_app_the_simulators_page_asks(tmp_path: Path) -> None:
    async with SimulatorProcess(tmp_path) as simulator:
        oauth = await connect_with_github.environment({}, HUB, simulator)

    assert oauth["GITHUB_OAUTH_BASE_URL"] == simulator.url
    assert oauth["GITHUB_OAUTH_REDIRECT_URL"] == f"{HUB}{PATH}/callback"
    connect_with_github.check(oauth)


async def test_without_both_it_is_off() -> None:
    assert await connect_with_github.environment({}, HUB, None) == {}
    assert connect_with_github.start_url({}) is None


@pytest.mark.parametrize(
    ("redirect_url", "port"),
    [
        (None, None),
        (f"https://localhost:8443{PATH}/callback", 8443),
        (f"https://[::1]:8443{PATH}/callback", None),
        (f"https://tunnel.example{PATH}/callback", None),
        ("https://localhost:8443/oauth/github/callback", None),
    ],
)
def test_the_hub_serves_where_the_callback_says_that_it_does(redirect_url: str | None, port: int | None) -> None:
    given = {**APP, **({"GITHUB_OAUTH_REDIRECT_URL": redirect_url} if redirect_url else {})}

    assert connect_with_github.hub_port(given) == port


@pytest.mark.parametrize("url", [f"http://localhost:8443{PATH}/callback", f"https://127.0.0.1{PATH}/callback"])
def test_a_callback_at_the_hub_that_no_browser_would_reach_is_refused(url: str) -> None:
    with pytest.raises(StackError, match=r"GITHUB_OAUTH_REDIRECT_URL .* write https://"):
        connect_with_github.check({**APP, "GITHUB_OAUTH_REDIRECT_URL": url})


def test_the_stack_is_stopped_whatever_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setenv("GITHUB_OAUTH_SCOPES", "repo")
    monkeypatch.setattr("sys.argv", ["demo", "down"])
    monkeypatch.setattr(demo, "down", lambda screen: asked.append("down") or 0)

    assert (demo.main(), asked) == (0, ["down"])


@pytest.mark.parametrize(
    ("base_url", "hosts"),
    [
        (None, []),
        ("https://github.com", []),
        ("https://ghe.example:8443/api/v3", ["ghe.example:8443"]),
        ("http://127.0.0.1:8080", ["http://127.0.0.1:8080"]),
    ],
)
def test_connections_may_name_the_host_that_people_connect_to(base_url: str | None, hosts: list[str]) -> None:
    given = {**APP, **({"GITHUB_OAUTH_BASE_URL": base_url} if base_url else {})}

    assert connect_with_github.git_hosts(given) == hosts
