"""Connect with GitHub in a real browser: two gateways behind the development hub, a real NATS, the simulated host."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import pytest_asyncio
from cryptography.fernet import Fernet

from codecommon.testing.engine import until
from devstack.devhub import DevHub
from devstack.githubsim import GithubSim
from devstack.githubsim.oauth import register
from devstack.githubsim.records import OAuthApp
from devstack.kcp import Kcp
from devstack.nats import NatsServer
from devstack.processes import Process

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page, Request

PREFIX = "/services/providers/code"
OPENER = "/ui/providers/code/opener.html"
PORTAL = Path(__file__).parent / "portal"
HOSTILE = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 2'>\u2028'\"`${window.ran = 3}<!--"
DENIED = "The user has denied your application access."
NOT_BEGUN_HERE = "This sign-in did not begin in this browser, or it began more than ten minutes ago. Begin again."
NOBODY_WAITS = "The page that began this sign-in is gone, so nothing is connected. Close this window and begin again."
ANSWERED = "This sign-in was answered before. Begin again."
NO_CLOSE = "window.close = () => {}"
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => violated(`${event.violatedDirective} ${event.blockedURI}`))
"""
WAIT = 10_000
"""Milliseconds, as Playwright takes them."""


@dataclass
class Place:
    """``origin``: of the hub, as the browser knows it. ``environ``: what all gateways have in common."""

    hub: DevHub
    sim: GithubSim
    app: OAuthApp
    origin: str
    environ: Mapping[str, str]

    @property
    def callback(self) -> str:
        return f"{self.origin}{PREFIX}/oauth/github/callback"

    def serve_with(self, replica: str) -> None:
        """From now on the hub's proxies lead to this gateway."""
        endpoint = {"url": replica}
        spec = {"displayName": "Code", "ui": endpoint, "backend": endpoint}
        self.hub.registry.upsert({"metadata": {"name": "code"}, "spec": spec})

    @asynccontextmanager
    async def gateway(self, folder: Path, **environ: str) -> AsyncIterator[str]:
        """The address of a gateway process of its own, once it has NATS."""
        process = Process(
            "gateway",
            [sys.executable, "-m", "gateway"],
            log_file=folder / "gateway.log",
            env={**self.environ, **environ},
        )
        async with process, aiohttp.ClientSession() as session:
            listening = await process.line(r"listening on port (\d+)", timeout=60)
            url = f"http://127.0.0.1:{listening[1]}"

            async def begins() -> bool:
                async with session.get(f"{url}/oauth/github/start?state=x", allow_redirects=False) as answer:
                    return answer.status == 302

            await process.wait_ready(begins, timeout=30)
            yield url


class Person:
    """Somebody at the browser, with cookies of their own."""

    def __init__(self, context: BrowserContext, place: Place) -> None:
        self.context = context
        self.place = place
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.errors: list[str] = []
        context.set_default_timeout(WAIT)
        context.on("request", lambda request: self.requests.append(request))
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        context.on("dialog", lambda dialog: self.errors.append(dialog.message))

    @classmethod
    @asynccontextmanager
    async def sits_down(cls, browser: Browser, place: Place) -> AsyncIterator[Person]:
        # The hub's certificate is its own.
        context = await browser.new_context(ignore_https_errors=True)
        person = cls(context, place)
        await context.expose_function("violated", lambda what: person.violations.append(what))
        await context.add_init_script(REPORT_VIOLATIONS)
        yield person
        await context.close()

    async def portal(self) -> Page:
        page = await self.context.new_page()
        await page.goto(self.place.origin + OPENER)
        return page

    async def begin(self, portal: Page) -> Page:
        """The popup, on the host's page."""
        async with portal.expect_popup() as opened:
            await portal.get_by_role("button").click()
        popup = await opened.value
        await popup.wait_for_url(f"{self.place.sim.url}/login/oauth/authorize?**")
        return popup

    async def answer(self, popup: Page, button: str = "Authorize as alice") -> None:
        await popup.get_by_role("button", name=button, exact=True).click(no_wait_after=True)

    def callbacks(self) -> list[str]:
        """The addresses of the callback that the browser was sent to, with their queries."""
        return [request.url for request in self.requests if request.url.startswith(f"{self.place.callback}?")]


async def message(portal: Page) -> dict[str, Any]:
    """The one message that has come, with the origin of who sent it."""
    await portal.wait_for_function("received.length > 0")
    (only,) = await portal.evaluate("received")
    return only


async def believed(portal: Page) -> list[dict[str, str]]:
    return await portal.evaluate("believed")


@pytest_asyncio.fixture(scope="module")
async def place(run_dir: Path, nats_server: NatsServer) -> AsyncIterator[Place]:
    async with AsyncExitStack() as exits:
        await nats_server.declare()
        sim = await exits.enter_async_context(GithubSim.serve())
        sim.simulation.world.new_user("alice")
        # What it does for kcp is not used here.
        hub = await exits.enter_async_context(DevHub(cast(Kcp, None), run_dir / "browser-hub"))
        origin = f"https://hub.test:{hub.port}"
        app = register(sim.simulation.world, f"{origin}{PREFIX}/oauth/github/callback")
        environ = {
            "CODE_GATEWAY_HOST": "127.0.0.1",
            "PORT": "0",
            "CODE_PORTAL_DIR": str(PORTAL),
            **nats_server.environment,
            "GITHUB_OAUTH_CLIENT_ID": app.client_id,
            "GITHUB_OAUTH_CLIENT_SECRET": app.client_secret,
            "GITHUB_OAUTH_REDIRECT_URL": app.callback_url,
            "GITHUB_OAUTH_BASE_URL": sim.url,
            "GITHUB_OAUTH_COOKIE_KEYS": Fernet.generate_key().decode(),
        }
        yield Place(hub, sim, app, origin, environ)


@dataclass
class Gateways:
    """Addresses. ``first`` and ``second`` are replicas; the browser reaches the hub of ``local`` on loopback."""

    first: str
    second: str
    local: str


@pytest_asyncio.fixture(scope="module")
async def gateways(place: Place, run_dir: Path) -> AsyncIterator[Gateways]:
    callback = f"{place.hub.url}{PREFIX}/oauth/github/callback"
    app = register(place.sim.simulation.world, callback)
    app.asks = True
    local = {
        "GITHUB_OAUTH_CLIENT_ID": app.client_id,
        "GITHUB_OAUTH_CLIENT_SECRET": app.client_secret,
        "GITHUB_OAUTH_REDIRECT_URL": callback,
    }
    async with AsyncExitStack() as exits:
        starting = (
            exits.enter_async_context(place.gateway(run_dir / f"browser-gateway-{number}", **environ))
            for number, environ in enumerate(({}, {}, local))
        )
        yield Gateways(*await asyncio.gather(*starting))


@pytest_asyncio.fixture
async def person(browser: Browser, place: Place, gateways: Gateways) -> AsyncIterator[Person]:
    """Behind the first gateway. The host asks them, and its words are what they usually are."""
    place.serve_with(gateways.first)
    place.app.asks, place.app.denial = True, DENIED
    async with Person.sits_down(browser, place) as person:
        yield person
        assert person.violations == []
        assert person.errors == []


# ---- the flow


async def test_who_agrees_hands_a_token_to_the_portal_and_the_popup_closes(person: Person) -> None:
    portal = await person.portal()
    popup = await person.begin(portal)
    async with popup.expect_event("close"):
        await person.answer(popup)

    came = await message(portal)
    assert came["origin"] == person.place.origin
    token = came["data"].pop("token")
    assert came["data"] == {
        "type": "kedge-github-oauth",
        "state": await portal.evaluate("state"),
        "login": "alice",
        "scopes": "admin:public_key, delete_repo, read:org, read:packages, repo, workflow",
        "error": "",
    }
    assert [taken["token"] for taken in await believed(portal)] == [token]
    bearer = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(person.place.sim.url, headers=bearer) as session, session.get("/user") as answer:
        assert (await answer.json())["login"] == "alice"


async def test_who_denies_tells_the_portal_so_and_the_popup_closes(person: Person) -> None:
    portal = await person.portal()
    popup = await person.begin(portal)
    async with popup.expect_event("close"):
        await person.answer(popup, "Cancel")
        came = await message(portal)

    empty = {"token": "", "login": "", "scopes": ""}
    state = await portal.evaluate("state")
    assert came["data"] == {"type": "kedge-github-oauth", "state": state, "error": DENIED, **empty}


async def test_another_replica_answers_the_callback(person: Person, gateways: Gateways) -> None:
    portal = await person.portal()
    popup = await person.begin(portal)
    person.place.serve_with(gateways.second)
    await person.answer(popup)

    await message(portal)
    assert [bool(taken["token"]) for taken in await believed(portal)] == [True]


async def test_a_popup_that_nobody_waits_for_any_more_says_so(person: Person) -> None:
    portal = await person.portal()
    popup = await person.begin(portal)
    await portal.close()
    await person.answer(popup)

    await popup.wait_for_url(person.place.callback)
    assert await popup.text_content("p") == NOBODY_WAITS


# ---- who gets it


async def test_a_page_of_another_origin_gets_nothing_though_it_opened_the_popup(person: Person) -> None:
    await person.context.add_init_script(NO_CLOSE)
    foreign = await person.context.new_page()
    start = f"{person.place.origin}{PREFIX}/oauth/github/start"
    await foreign.goto(f"https://foreign.test:{person.place.hub.port}{OPENER}#{quote(start)}")
    popup = await person.begin(foreign)
    await person.answer(popup)
    await popup.get_by_text("Connected with GitHub").wait_for()

    # Messages of a page come in its order, so what it posted before would have come by then.
    await popup.evaluate("opener.postMessage('after', '*')")
    assert (await message(foreign))["data"] == "after"


async def test_a_callback_that_began_in_another_browser_gives_nothing_and_says_why(
    person: Person, browser: Browser
) -> None:
    async with Person.sits_down(browser, person.place) as attacker:
        address = await agreed(await attacker.begin(await attacker.portal()))
    portal = await person.portal()
    popup = await person.begin(portal)

    await leave_for(popup, address)

    came = (await message(portal))["data"]
    assert (came["state"], came["token"], came["error"]) == ("", "", NOT_BEGUN_HERE)
    assert await believed(portal) == []


async def test_a_callback_with_another_state_gives_nothing(person: Person) -> None:
    portal = await person.portal()
    popup = await person.begin(portal)
    code = parse_qs(urlsplit(await agreed(popup)).query)["code"][0]

    await leave_for(popup, f"{person.place.callback}?code={code}&state={'A' * 43}")

    came = (await message(portal))["data"]
    assert (came["state"], came["token"], came["error"]) == ("", "", NOT_BEGUN_HERE)
    assert await believed(portal) == []


async def test_a_callback_is_answered_once_even_if_the_browser_still_has_the_cookie(person: Person) -> None:
    portal = await person.portal()
    popup = await person.begin(portal)
    cookies = await person.context.cookies()
    await person.answer(popup)
    await message(portal)
    (address,) = person.callbacks()
    again = await person.context.new_page()

    await again.goto(address)
    assert await again.inner_text("p") == NOT_BEGUN_HERE

    await person.context.add_cookies(cast(Any, cookies))
    await again.goto(address)
    assert await again.inner_text("p") == ANSWERED
    assert "gho_" not in await again.content()


# ---- what is left behind


async def test_the_browser_keeps_the_cookie_for_the_external_path_of_the_callback_alone(person: Person) -> None:
    portal = await person.portal()
    before = time.time()
    popup = await person.begin(portal)

    (cookie,) = await person.context.cookies()
    assert cookie.pop("name").startswith("kedge-code-oauth-")
    assert 500 < cookie.pop("expires") - before < 700
    assert await portal.evaluate("state") not in cookie.pop("value")
    assert cookie == {
        "domain": "hub.test",
        "path": f"{PREFIX}/oauth/github/callback",
        "httpOnly": True,
        "secure": True,
        "sameSite": "Lax",
    }
    await person.answer(popup)
    await message(portal)
    assert await person.context.cookies() == []


async def test_on_loopback_the_browser_keeps_the_cookie_without_tls(person: Person, gateways: Gateways) -> None:
    """As on a developer's machine."""
    person.place.serve_with(gateways.local)
    portal = await person.context.new_page()
    await portal.goto(f"{person.place.hub.url}{OPENER}")
    popup = await person.begin(portal)
    (cookie,) = await person.context.cookies()
    await person.answer(popup)
    await message(portal)

    assert (cookie["secure"], cookie["path"]) == (False, f"{PREFIX}/oauth/github/callback")
    assert [taken["login"] for taken in await believed(portal)] == ["alice"]


async def test_neither_address_nor_history_nor_referrer_tells_of_token_or_code(person: Person) -> None:
    await person.context.add_init_script(NO_CLOSE)
    portal = await person.portal()
    popup = await person.begin(portal)
    await person.answer(popup)
    token = (await message(portal))["data"]["token"]
    (address,) = person.callbacks()
    code = parse_qs(urlsplit(address).query)["code"][0]

    devtools = await person.context.new_cdp_session(popup)
    history = [entry["url"] for entry in (await devtools.send("Page.getNavigationHistory"))["entries"]]
    await leave_for(popup, person.place.origin + OPENER)
    await popup.wait_for_url(person.place.origin + OPENER)

    assert history[-1] == person.place.callback
    assert token
    assert not [url for url in [*history, *(request.url for request in person.requests)] if token in url]
    assert not [url for url in history if code in url]
    to_the_host = next(request for request in person.requests if request.url.startswith(person.place.sim.url))
    assert "referer" not in await to_the_host.all_headers()
    assert "referer" not in await person.requests[-1].all_headers()


# ---- hostile words


async def test_hostile_words_of_the_host_and_a_hostile_state_stay_words(person: Person) -> None:
    await person.context.add_init_script(NO_CLOSE)
    person.place.app.denial = HOSTILE
    state = "</script><script>window.ran=4</script>'\"`${window.ran=5}<!--"
    portal = await person.portal()
    await portal.evaluate("text => { state = text }", state)
    popup = await person.begin(portal)
    await person.answer(popup, "Cancel")

    came = (await message(portal))["data"]
    assert (came["state"], came["error"], came["token"]) == (state, HOSTILE, "")
    assert await popup.text_content("p") == HOSTILE
    assert await popup.locator("script, img").count() == 1
    assert await popup.evaluate("window.ran") is None


async def test_markup_that_got_into_the_page_all_the_same_would_do_nothing(person: Person) -> None:
    await person.context.add_init_script(NO_CLOSE)
    popup = await person.begin(await person.portal())
    await person.answer(popup, "Cancel")
    await popup.get_by_text(DENIED).wait_for()
    assert await popup.inner_text("body") == DENIED
    assert person.violations == []

    await popup.evaluate(
        """markup => document.body.append(document.createRange().createContextualFragment(markup))""",
        "<script>window.ran = 1</script><img src='/x' onerror='window.ran = 2'>",
    )

    await until(lambda: len(person.violations) == 3)
    assert sorted(person.violations) == [
        f"img-src {person.place.origin}/x",
        "script-src-attr inline",
        "script-src-elem inline",
    ]
    assert await popup.evaluate("window.ran") is None
    person.violations.clear()
    person.errors.clear()


async def leave_for(page: Page, address: str) -> None:
    """As a script of the page would. If the browser's user types an address, the page has no opener any more."""
    await page.evaluate("address => { location = address }", address)


async def agreed(popup: Page) -> str:
    """Where the host sends the browser of who agrees. The browser does not go there."""
    sent = {"login": "alice"}
    async with aiohttp.ClientSession() as session, session.post(popup.url, data=sent, allow_redirects=False) as answer:
        return answer.headers["Location"]
