"""Connect with GitHub over HTTP: a browser, a hub in front of two replicas, a real NATS and the simulated host."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
import pytest_asyncio
import uvicorn
from aiohttp import web
from cryptography.fernet import Fernet
from starlette.applications import Starlette
from starlette.routing import Mount

from codecommon.process.health import Readiness
from codecommon.process.secrets import SecretValue
from codecommon.process.settings import NatsSettings, SettingsError
from codecommon.testing.engine import until
from devstack.devhub.certificate import server_context
from devstack.githubsim import GithubSim, SimControl
from devstack.githubsim.oauth import register
from devstack.nats import NatsServer
from devstack.ports import free_ports
from devstack.processes import Process
from gateway.nats_connection import NatsConnection
from gateway.oauth.cookie import FLOW_SECONDS, Flow, FlowCookies
from gateway.oauth.routes import ConnectWithGitHub
from gateway.oauth.settings import OAuthSettings
from gateway.routes import build_app
from gateway.settings import GatewaySettings

PREFIX = "/services/providers/code"
STATE = "0123456789abcdef0123456789abcdef"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)><!--<script>"


class Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Hub:
    """Serves the replica ``current`` below the provider's prefix, which it strips."""

    def __init__(
        self, origin: str, app: Any, host: str, nats: Mapping[str, str], verify: ssl.SSLContext | bool
    ) -> None:
        self.origin = origin
        self.verify = verify
        self.app = app
        self.environ = {
            "GITHUB_OAUTH_CLIENT_ID": app.client_id,
            "GITHUB_OAUTH_CLIENT_SECRET": app.client_secret,
            "GITHUB_OAUTH_REDIRECT_URL": f"{origin}{PREFIX}/oauth/github/callback",
            "GITHUB_OAUTH_BASE_URL": host,
            **nats,
        }
        self.current: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.current(scope, receive, send)

    @asynccontextmanager
    async def replica(self, **environ: str) -> AsyncIterator[Any]:
        """Another process: it shares nothing with the first one but settings and NATS."""
        settings = GatewaySettings.load({**self.environ, **environ})
        nats = NatsConnection(settings.nats, "gateway")
        oauth = ConnectWithGitHub(settings.oauth, nats)
        running = asyncio.create_task(nats.run("Connect with GitHub"))
        async with oauth.open():
            yield build_app(Readiness(), routes=oauth.routes())
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


class Browser:
    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.http = httpx.AsyncClient(trust_env=False, verify=hub.verify)

    async def get(self, path: str, **query: str) -> httpx.Response:
        return await self.http.get(f"{self.hub.origin}{PREFIX}/oauth/github/{path}", params=query)

    async def start(self, state: str = STATE) -> str:
        """The address of the host to which the popup is sent."""
        response = await self.get("start", state=state)
        assert response.status_code == 302, response.text
        return response.headers["Location"]

    async def agree(self, authorize_url: str) -> str:
        """The address of the callback to which the host sends the popup."""
        return (await self.http.get(authorize_url)).headers["Location"]

    async def callback(self, state: str = STATE) -> str:
        return await self.agree(await self.start(state))


class Page(HTMLParser):
    """What a browser makes of the page, and what its script posts to whom."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(response.text)
        assert response.status_code == 200
        posted = re.search(r"postMessage\((\{.*\}), (\".*\")\);", self.text)
        assert posted is not None
        self.message: dict[str, str] = json.loads(posted[1])
        self.origin: str = json.loads(posted[2])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest_asyncio.fixture(scope="module", name="nats")
async def _nats(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path_factory.mktemp("nats")) as running:
        await running.declare()
        yield running


@pytest_asyncio.fixture(scope="module")
async def sim() -> AsyncIterator[GithubSim]:
    async with GithubSim.serve() as running, SimControl(running.url) as control:
        await control.create_user("alice")
        yield running


@asynccontextmanager
async def serving(sim: GithubSim, nats: Mapping[str, str], verify: ssl.SSLContext | bool = False) -> AsyncIterator[Hub]:
    async with AsyncExitStack() as stack:
        listener = socket.create_server(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = register(sim.simulation.world, f"{origin}{PREFIX}/oauth/github/callback")
        app.approve_as = "alice"
        hub = Hub(origin, app, sim.url, nats, verify)
        hub.current = await stack.enter_async_context(hub.replica())
        server = Server(uvicorn.Config(Starlette(routes=[Mount(PREFIX, hub)]), log_config=None, ws="none"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        yield hub
        server.should_exit = True
        await task


@pytest_asyncio.fixture
async def hub(sim: GithubSim, nats: NatsServer) -> AsyncIterator[Hub]:
    async with serving(sim, nats.environment) as hub:
        await connected(hub)
        yield hub


@pytest_asyncio.fixture
async def browser(hub: Hub) -> AsyncIterator[Browser]:
    browser = Browser(hub)
    yield browser
    await browser.http.aclose()


async def connected(hub: Hub) -> None:
    """Until the current replica has NATS."""
    browser = Browser(hub)

    async def starts() -> bool:
        return (await browser.get("start", state=STATE)).status_code == 302

    await until(starts)
    await browser.http.aclose()


# ---- the flow


async def test_who_agrees_hands_a_token_to_the_portal(browser: Browser, sim: GithubSim) -> None:
    response = await browser.http.get(await browser.callback())

    page = Page(response)
    assert page.origin == browser.hub.origin
    token = page.message.pop("token")
    assert page.message == {
        "type": "kedge-github-oauth",
        "state": STATE,
        "login": "alice",
        "scopes": "admin:public_key, delete_repo, read:org, read:packages, repo, workflow",
        "error": "",
    }
    user = await browser.http.get(f"{sim.url}/user", headers={"Authorization": f"Bearer {token}"})
    assert user.json()["login"] == "alice"
    assert token not in str(response.url)


async def test_the_host_is_asked_with_pkce_and_a_state_that_is_not_the_portals(browser: Browser) -> None:
    address = urlsplit(await browser.start())

    query = dict(parse_qsl(address.query))
    assert address.path == "/login/oauth/authorize"
    assert query["code_challenge_method"] == "S256"
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", query["code_challenge"])
    assert query["redirect_uri"] == browser.hub.environ["GITHUB_OAUTH_REDIRECT_URL"]
    assert query["scope"] == "repo workflow delete_repo read:org admin:public_key read:packages"
    assert query["state"] != STATE


async def test_a_code_is_worth_nothing_with_another_flows_verifier(browser: Browser) -> None:
    first = parse_qs(urlsplit(await browser.callback()).query)
    second = parse_qs(urlsplit(await browser.callback()).query)

    page = Page(await browser.get("callback", code=first["code"][0], state=second["state"][0]))

    assert (page.message["token"], page.message["error"]) == ("", "The code passed is incorrect or expired.")


async def test_two_tabs_do_not_disturb_each_other(browser: Browser) -> None:
    first, second = await browser.callback("first"), await browser.callback("second")

    pages = [Page(await browser.http.get(address)) for address in (first, second)]

    assert [page.message["state"] for page in pages] == ["first", "second"]
    assert all(page.message["token"] for page in pages)


async def test_who_denies_tells_the_portal_so(browser: Browser, sim: GithubSim) -> None:
    async with SimControl(sim.url) as control:
        await control.approve_oauth_as(browser.hub.app.client_id, None)

    page = Page(await browser.http.get(await browser.callback()))

    assert page.message["state"] == STATE
    assert page.message["token"] == ""
    assert page.message["error"] == "The user has denied your application access."


async def test_a_token_whose_owner_the_host_does_not_tell_is_handed_over_all_the_same(
    browser: Browser, sim: GithubSim
) -> None:
    async with SimControl(sim.url) as control:
        await control.add_fault("status", path="/user")
        page = Page(await browser.http.get(await browser.callback()))

    assert page.message["token"].startswith("gho_")
    assert (page.message["login"], page.message["error"]) == ("", "")


async def test_another_replica_answers_the_callback(hub: Hub, browser: Browser) -> None:
    address = await browser.callback()
    async with hub.replica() as hub.current:
        await connected(hub)

        page = Page(await browser.http.get(address))

    assert page.message["token"].startswith("gho_")


# ---- state


async def test_a_callback_counts_once(browser: Browser) -> None:
    address = await browser.callback()
    cookies = dict(browser.http.cookies)
    assert Page(await browser.http.get(address)).message["token"]
    assert not browser.http.cookies
    browser.http.cookies.update(cookies)

    page = Page(await browser.http.get(address))

    assert page.message["token"] == ""
    assert page.message["error"].startswith("This sign-in was answered before.")


async def test_of_many_callbacks_at_once_one_counts(browser: Browser) -> None:
    address = await browser.callback()
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.http.cookies.items())}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        pages = [Page(answer) for answer in await asyncio.gather(*(client.get(address) for _ in range(8)))]

    assert sum(page.message["error"].startswith("This sign-in was answered before.") for page in pages) == 7


@pytest.mark.parametrize("state", ["", "x", STATE, "A" * 43, "../../" + "A" * 37, "é" * 43])
async def test_a_state_that_is_not_ours_is_refused(browser: Browser, state: str) -> None:
    code = parse_qs(urlsplit(await browser.callback()).query)["code"][0]

    page = Page(await browser.get("callback", code=code, state=state))

    assert (page.message["state"], page.message["token"]) == ("", "")
    assert page.message["error"].startswith("This sign-in did not begin in this browser")


async def test_a_flow_that_nobody_began_is_refused_though_its_cookie_is_right(hub: Hub, browser: Browser) -> None:
    settings = OAuthSettings.model_validate(hub.environ)
    flow = Flow("A" * 43, STATE, SecretValue("v" * 43))
    cookies = ConnectWithGitHub(settings, NatsConnection(NatsSettings(), "gateway"))._cookies
    browser.http.cookies.set(flow.cookie_name, cookies.seal(flow))

    page = Page(await browser.get("callback", code="c", state=flow.id))

    assert page.message["error"].startswith("This sign-in was answered before")


# ---- the browser


async def test_a_callback_in_a_browser_without_the_cookie_is_refused_and_does_not_spoil_the_flow(
    hub: Hub, browser: Browser
) -> None:
    address = await browser.callback()
    victim = Browser(hub)

    page = Page(await victim.http.get(address))

    assert (page.message["state"], page.message["token"]) == ("", "")
    assert page.message["error"].startswith("This sign-in did not begin in this browser")
    await victim.http.aclose()
    assert Page(await browser.http.get(address)).message["token"]


async def test_a_callback_with_the_cookie_of_another_flow_is_refused(hub: Hub, browser: Browser) -> None:
    address = await browser.callback()
    victim = Browser(hub)
    await victim.start()
    stranger = urlsplit(address)
    (own,) = victim.http.cookies.values()
    (name,) = browser.http.cookies.keys()
    victim.http.cookies.clear()
    victim.http.cookies.set(name, own)

    page = Page(await victim.http.get(stranger.geturl()))

    assert (page.message["state"], page.message["token"]) == ("", "")
    assert page.message["error"].startswith("This sign-in did not begin in this browser")
    await victim.http.aclose()


async def test_the_cookie_is_for_the_external_path_of_the_callback_alone(browser: Browser) -> None:
    response = await browser.get("start", state=STATE)

    name, *attributes = response.headers["Set-Cookie"].split("; ")
    assert {item.lower() for item in attributes} == {
        "httponly",
        f"max-age={FLOW_SECONDS}",
        f"path={PREFIX}/oauth/github/callback",
        "samesite=lax",
    }
    assert STATE not in name
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"


async def test_a_cookie_needs_https_unless_the_browser_is_on_the_same_machine() -> None:
    def is_loopback(url: str) -> bool:
        return settings(GITHUB_OAUTH_REDIRECT_URL=url).is_loopback

    assert is_loopback("http://localhost:8083/oauth/github/callback")
    assert is_loopback("http://[::1]:8083/oauth/github/callback")
    assert not is_loopback("https://hub.example/oauth/github/callback")
    assert not is_loopback("https://localhost.example/oauth/github/callback")


def test_a_cookie_is_read_with_any_of_the_keys_and_only_for_ten_minutes() -> None:
    old, new = (SecretValue(Fernet.generate_key().decode()) for _ in range(2))
    now = 1_790_000_000.0
    flow = Flow("A" * 43, STATE, SecretValue("v" * 43))
    sealed = FlowCookies([old], lambda: now).seal(flow)

    assert FlowCookies([new, old], lambda: now + FLOW_SECONDS).open(sealed) == flow
    assert FlowCookies([new, old], lambda: now + FLOW_SECONDS + 1).open(sealed) is None
    assert FlowCookies([new], lambda: now).open(sealed) is None
    assert FlowCookies([old], lambda: now).open(sealed[:-2]) is None
    assert FlowCookies([old], lambda: now).open("") is None
    assert FlowCookies([old], lambda: now).open("é") is None


# ---- the page


async def test_hostile_words_of_the_host_stay_words(browser: Browser) -> None:
    flow_id = parse_qs(urlsplit(await browser.start()).query)["state"][0]

    response = await browser.get("callback", state=flow_id, error="access_denied", error_description=HOSTILE)

    page = Page(response)
    assert page.tags == ["html", "head", "meta", "title", "body", "p", "script"]
    assert page.message["error"] == HOSTILE


async def test_what_cannot_be_seen_and_what_is_too_long_is_left_out(browser: Browser) -> None:
    flow_id = parse_qs(urlsplit(await browser.start()).query)["state"][0]
    described = "a\u202eb\u0000c\u200b ghp_0123456789abcdefghijABCDEFGHIJ0123456789 " + "word " * 1000

    page = Page(await browser.get("callback", state=flow_id, error="x", error_description=described))

    assert page.message["error"].startswith("abc <redacted> word ")
    assert len(page.message["error"]) <= 300


async def test_nobody_stores_or_frames_the_page_and_only_its_own_script_runs(browser: Browser) -> None:
    response = await browser.http.get(await browser.callback())

    (nonce,) = {value for name, value in Page(response).attributes if name == "nonce"}
    policy = {part.split()[0]: part.split()[1:] for part in response.headers["Content-Security-Policy"].split(";")}
    assert policy == {
        "default-src": ["'none'"],
        "script-src": [f"'nonce-{nonce}'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    another = await browser.http.get(await browser.callback())
    assert nonce not in another.text


async def test_no_secret_is_logged(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "gateway")
    address = await browser.callback()
    page = Page(await browser.http.get(address))
    await browser.http.get(address)

    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("gateway"))
    for secret in (page.message["token"], browser.hub.app.client_secret, parse_qs(urlsplit(address).query)["code"][0]):
        assert secret not in ours


async def test_head_takes_no_flow_and_begins_none(browser: Browser) -> None:
    address = await browser.callback()

    head = await browser.http.head(address)
    begun = await browser.http.head(f"{browser.hub.origin}{PREFIX}/oauth/github/start?state=x")

    assert "set-cookie" not in {*head.headers, *begun.headers}
    assert Page(await browser.http.get(address)).message["token"]


# ---- the host


@asynccontextmanager
async def another_host(answer: Any) -> AsyncIterator[str]:
    """A host that answers every request for a token with ``answer``."""
    app = web.Application()
    app.router.add_post("/login/oauth/access_token", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def redirects(request: web.Request) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect("/elsewhere")


async def is_too_long(request: web.Request) -> web.StreamResponse:
    return web.json_response({"access_token": "gho_a", "more": "x" * 100_000})


async def never_answers(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def is_deep(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"[" * 60000)


async def has_a_strange_token(request: web.Request) -> web.StreamResponse:
    return web.json_response({"access_token": "gho_a\r\nX: y"})


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (redirects, "GitHub answered with status 307 and no token. Try again."),
        (is_too_long, "GitHub could not be reached, or did not answer in time. Try again."),
        (never_answers, "GitHub could not be reached, or did not answer in time. Try again."),
        (is_deep, "GitHub answered with status 200 and no token. Try again."),
        (has_a_strange_token, "GitHub answered with status 200 and no token. Try again."),
    ],
)
async def test_a_host_that_does_not_answer_as_it_should_is_a_sentence_in_bounded_time(
    hub: Hub, browser: Browser, monkeypatch: pytest.MonkeyPatch, answer: Any, why: str
) -> None:
    if answer is never_answers:
        monkeypatch.setattr("gateway.oauth.exchange._EXCHANGE_SECONDS", 0.5)
    address = await browser.callback()
    async with another_host(answer) as host, hub.replica(GITHUB_OAUTH_BASE_URL=host) as hub.current:
        await connected(hub)
        page = Page(await browser.http.get(address))

    assert (page.message["token"], page.message["error"]) == ("", why)


@pytest.mark.parametrize("trusted", [True, False])
async def test_an_enterprise_server_is_trusted_by_ssl_cert_file(
    nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    async with GithubSim.serve(tls=server_context(tmp_path)) as sim:
        sim.simulation.world.new_user("alice")
        authority = tmp_path / "devhub.pem"
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        async with serving(sim, nats.environment, verify=ssl.create_default_context(cafile=str(authority))) as hub:
            await connected(hub)
            browser = Browser(hub)
            page = Page(await browser.http.get(await browser.callback()))
            await browser.http.aclose()

    assert bool(page.message["token"]) is trusted
    assert page.message["login"] == ("alice" if trusted else "")


async def test_the_host_is_asked_through_the_proxy(hub: Hub, browser: Browser, sim: GithubSim) -> None:
    # What the proxy is asked for has the whole URL; the simulator answers it as if it were the host of that name.
    async with hub.replica(GITHUB_OAUTH_BASE_URL="http://ghe.localhost", HTTP_PROXY=sim.url) as hub.current:
        await connected(hub)
        address = await browser.start()
        assert address.startswith("http://ghe.localhost/login/oauth/authorize?")

        page = Page(await browser.http.get(await browser.agree(address.replace("http://ghe.localhost", sim.url))))

    assert (page.message["login"], page.message["error"]) == ("alice", "")


# ---- without NATS


async def test_more_flows_than_people_begin_are_refused(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.oauth.flows._MOST_PER_MINUTE", 3)
    # The minute may change in between.
    answers = [await browser.get("start", state=STATE) for _ in range(8)]

    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert refused[0].headers["Retry-After"] == "60"


@pytest.mark.slow
async def test_the_process_serves_and_stops_while_nats_is_away(tmp_path: Path) -> None:
    process = Process(
        "gateway",
        [sys.executable, "-m", "gateway"],
        log_file=tmp_path / "gateway.log",
        env={
            "CODE_GATEWAY_HOST": "127.0.0.1",
            "PORT": "0",
            "NATS_URL": f"nats://127.0.0.1:{free_ports(1)[0]}",
            "GITHUB_OAUTH_CLIENT_ID": "id",
            "GITHUB_OAUTH_CLIENT_SECRET": "secret",
            "GITHUB_OAUTH_REDIRECT_URL": "https://hub.example/services/providers/code/oauth/github/callback",
        },
    )
    async with process, httpx.AsyncClient(trust_env=False) as client:
        port = (await process.line(r"listening on port (\d+)", timeout=60))[1]
        await process.line('"started"')
        url = f"http://127.0.0.1:{port}"
        assert (await client.get(f"{url}/readyz")).status_code == 200
        assert (await client.get(f"{url}/oauth/github/config")).json()["enabled"] is True
        assert (await client.get(f"{url}/oauth/github/start?state=x")).status_code == 503

        os.kill(process.pid, signal.SIGTERM)

        assert await process.wait(10) == 0


async def test_without_nats_the_gateway_serves_and_a_flow_waits(sim: GithubSim) -> None:
    async with serving(sim, {"NATS_URL": f"nats://127.0.0.1:{free_ports(1)[0]}"}) as hub:
        browser = Browser(hub)
        async with asyncio.timeout(5):
            health = await browser.http.get(f"{hub.origin}{PREFIX}/healthz")
            config = await browser.get("config")
            start = await browser.get("start", state=STATE)
        await browser.http.aclose()

    assert (health.status_code, config.json()["enabled"]) == (200, True)
    assert start.status_code == 503
    assert start.text == "Signing in does not work at the moment. Try again in a minute."


async def test_after_nats_lost_its_data_and_init_has_run_flows_begin_again(sim: GithubSim, tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "first") as nats, serving(sim, {"NATS_URL": nats.url}) as hub:
        await nats.declare()
        await connected(hub)
        await nats.stop()
        async with NatsServer(tmp_path / "second", port=nats.port) as empty:
            await empty.declare()
            await connected(hub)


# ---- settings


def settings(**environ: str) -> OAuthSettings:
    return GatewaySettings.load(
        {
            "GITHUB_OAUTH_CLIENT_ID": "id",
            "GITHUB_OAUTH_CLIENT_SECRET": "s3cret",
            "GITHUB_OAUTH_REDIRECT_URL": "https://hub.example/services/providers/code/oauth/github/callback",
            **environ,
        }
    ).oauth


async def test_config_tells_the_portal_where_to_start_and_which_host(browser: Browser, sim: GithubSim) -> None:
    response = await browser.get("config")

    assert response.json() == {
        "enabled": True,
        "startURL": f"{browser.hub.origin}{PREFIX}/oauth/github/start",
        "scopes": "repo, workflow, delete_repo, read:org, admin:public_key, read:packages",
        "baseURL": sim.url,
    }


async def test_while_it_is_off_config_says_so_and_the_rest_is_404(hub: Hub, browser: Browser) -> None:
    async with hub.replica(GITHUB_OAUTH_CLIENT_SECRET="") as hub.current:
        assert (await browser.get("config")).json() == {"enabled": False}
        assert (await browser.get("start", state=STATE)).status_code == 404
        assert (await browser.get("callback")).status_code == 404


@pytest.mark.parametrize("state", ["", "a b", "x" * 257, "é"])
async def test_a_flow_needs_a_state_of_the_portal(browser: Browser, state: str) -> None:
    assert (await browser.get("start", state=state)).status_code == 400


def test_by_default_the_portal_is_where_the_hub_is() -> None:
    assert settings().problem is None
    assert settings().target_origin == "https://hub.example"
    assert settings(GITHUB_OAUTH_PORTAL_ORIGIN="https://portal.example/").target_origin == "https://portal.example"


def test_the_start_is_beside_the_callback_without_query() -> None:
    redirect = "https://code.example/a/oauth/github/callback?x=1#y"
    assert settings(GITHUB_OAUTH_REDIRECT_URL=redirect).start_url == "https://code.example/a/oauth/github/start"


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"GITHUB_OAUTH_CLIENT_SECRET": ""}, "GITHUB_OAUTH_CLIENT_SECRET not set"),
        (
            {"GITHUB_OAUTH_REDIRECT_URL": "https://code.example/oauth/github/callback"},
            "GITHUB_OAUTH_PORTAL_ORIGIN is not set",
        ),
        ({"GITHUB_OAUTH_PORTAL_ORIGIN": "*"}, r"GITHUB_OAUTH_PORTAL_ORIGIN is \*"),
        (
            {"GITHUB_OAUTH_REDIRECT_URL": "http://hub.example/services/providers/code/oauth/github/callback"},
            "GITHUB_OAUTH_REDIRECT_URL is plain HTTP",
        ),
        (
            {"GITHUB_OAUTH_BASE_URL": "http://ghe.example", "KEDGE_DEV_ALLOW_TENANT_QUERY": "true"},
            "GITHUB_OAUTH_BASE_URL is plain HTTP",
        ),
    ],
)
def test_what_is_not_safe_is_off_and_the_log_says_why(
    environ: dict[str, str], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    oauth = ConnectWithGitHub(settings(**environ), NatsConnection(NatsSettings(), "gateway"))

    assert not oauth.enabled
    assert re.search(f"Connect with GitHub is off: .*{why}", caplog.text)


@pytest.mark.parametrize("host", ["localhost:3000", "ghe.localhost", "127.0.0.2:3000", "[::1]:3000"])
def test_a_host_on_loopback_may_speak_plain_http(host: str) -> None:
    assert settings(GITHUB_OAUTH_BASE_URL=f"http://{host}").problem is None


def test_who_wants_none_of_it_reads_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    oauth = ConnectWithGitHub(GatewaySettings.load({}).oauth, NatsConnection(NatsSettings(), "gateway"))

    assert not oauth.enabled
    assert not caplog.records


def test_any_page_is_the_portal_in_development_mode_only() -> None:
    development = settings(GITHUB_OAUTH_PORTAL_ORIGIN="*", KEDGE_DEV_ALLOW_TENANT_QUERY="true")

    assert (development.problem, development.target_origin) == (None, "*")


@pytest.mark.parametrize(
    ("base_url", "web", "api", "connection"),
    [
        ("", "https://github.com", "https://api.github.com", ""),
        ("https://github.com/", "https://github.com", "https://api.github.com", ""),
        ("https://octo.ghe.com", "https://octo.ghe.com", "https://api.octo.ghe.com", "https://octo.ghe.com"),
        ("https://API.octo.ghe.com", "https://octo.ghe.com", "https://api.octo.ghe.com", "https://octo.ghe.com"),
        ("https://ghe.example", "https://ghe.example", "https://ghe.example/api/v3", "https://ghe.example"),
        (
            "https://ghe.example:8443/api/v3/",
            "https://ghe.example:8443",
            "https://ghe.example:8443/api/v3",
            "https://ghe.example:8443",
        ),
    ],
)
def test_each_kind_of_github_has_its_addresses(base_url: str, web: str, api: str, connection: str) -> None:
    host = settings(GITHUB_OAUTH_BASE_URL=base_url).host

    assert (host.web, host.api, host.connection_base_url) == (web, api, connection)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GITHUB_OAUTH_REDIRECT_URL", "hub.example/callback"),
        ("GITHUB_OAUTH_REDIRECT_URL", "https://hub.example/services/providers/code/oauth/github"),
        ("GITHUB_OAUTH_PORTAL_ORIGIN", "portal.example"),
        ("GITHUB_OAUTH_PORTAL_ORIGIN", "https://portal.example/ui"),
        ("GITHUB_OAUTH_BASE_URL", "ghe.example"),
        ("GITHUB_OAUTH_BASE_URL", "https://ghe.example/other"),
        ("GITHUB_OAUTH_COOKIE_KEYS", "c2hvcnQ="),
    ],
)
def test_a_wrong_value_names_its_variable_and_never_shows_a_key(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}: .*; accepted: ") as raised:
        settings(**{variable: value})

    assert "c2hvcnQ" not in str(raised.value)
