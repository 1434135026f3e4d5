"""The web flow of OAuth apps: the code, what it is exchanged for, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from devstack.githubsim import SimControl

CALLBACK = "https://portal.example/oauth/callback"
VERIFIER = "a-verifier-of-at-least-forty-three-characters"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


class Flow:
    """An OAuth app whose requests alice grants."""

    def __init__(self, session: Any, url: str, app: Any) -> None:
        self._session = session
        self._url = url
        self.app = app

    async def authorize(self, **query: str) -> tuple[str, dict[str, str]]:
        """Where the browser is sent, and the query that it takes along."""
        params = {"client_id": self.app.client_id} | query
        address = f"{self._url}/login/oauth/authorize"
        async with self._session.get(address, params=params, allow_redirects=False) as response:
            assert response.status == 302
            base, _, sent = response.headers["Location"].partition("?")
            return base, dict(parse_qsl(sent))

    async def code(self, **query: str) -> str:
        return (await self.authorize(**query))[1]["code"]

    async def exchange(self, code: str, *, form: bool = False, **fields: str) -> dict[str, str]:
        sent = {"client_id": self.app.client_id, "client_secret": self.app.client_secret, "code": code} | fields
        given = {"data": sent} if form else {"json": sent, "headers": {"Accept": "application/json"}}
        async with self._session.post(f"{self._url}/login/oauth/access_token", **given) as response:
            assert response.status == 200
            return dict(parse_qsl(await response.text())) if form else await response.json()


@pytest.fixture
async def flow(control: SimControl, session: Any, sim: Any, alice: Any) -> Flow:
    return Flow(session, sim.url, await control.create_oauth_app(CALLBACK, approve_as="alice"))


@pytest.mark.parametrize("form", [True, False])
async def test_a_code_becomes_a_token_of_the_user_with_the_scopes_asked_for(api: Any, flow: Flow, form: bool) -> None:
    address, query = await flow.authorize(scope="repo read:org", state="xyz")
    assert (address, query["state"]) == (CALLBACK, "xyz")
    answer = await flow.exchange(query["code"], form=form, redirect_uri=CALLBACK)
    assert (answer["scope"], answer["token_type"], answer["access_token"][:4]) == ("read:org,repo", "bearer", "gho_")
    user = await api("GET", "/user", token=answer["access_token"])
    assert (user.body["login"], user.headers["X-OAuth-Scopes"]) == ("alice", "read:org, repo")


async def test_a_code_is_good_once_for_ten_minutes_and_for_its_app(
    flow: Flow, control: SimControl, session: Any, sim: Any, clock: Any
) -> None:
    code = await flow.code()
    other = Flow(session, sim.url, await control.create_oauth_app(CALLBACK))
    assert (await other.exchange(code))["error"] == "bad_verification_code"
    assert "access_token" in await flow.exchange(code)
    assert (await flow.exchange(code))["error"] == "bad_verification_code"
    code = await flow.code()
    clock.advance(600)
    assert (await flow.exchange(code))["error"] == "bad_verification_code"


async def test_a_code_with_a_challenge_wants_its_verifier(flow: Flow) -> None:
    asked = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    assert "access_token" in await flow.exchange(await flow.code(**asked), code_verifier=VERIFIER)
    assert (await flow.exchange(await flow.code(**asked)))["error"] == "bad_verification_code"
    wrong = await flow.exchange(await flow.code(**asked), code_verifier=f"{VERIFIER}-of-another")
    assert wrong["error"] == "bad_verification_code"
    _, query = await flow.authorize(code_challenge=VERIFIER, code_challenge_method="plain")
    assert query["error"] == "invalid_request"


async def test_an_app_must_show_its_own_secret_and_the_address_of_the_request(flow: Flow) -> None:
    code = await flow.code()
    for wrong in ({"client_secret": "0" * 40}, {"client_id": "Ov23liUnknown"}):
        assert (await flow.exchange(code, **wrong))["error"] == "incorrect_client_credentials"
    refused = await flow.exchange(code, redirect_uri=f"{CALLBACK}/other")
    assert refused["error"] == "redirect_uri_mismatch"


@pytest.mark.parametrize(
    ("redirect_uri", "taken"),
    [
        (f"{CALLBACK}/github", True),
        ("https://eu.portal.example/oauth/callback", True),
        ("https://portal.example/oauth", False),
        ("https://portal.example/oauth/callback/../../evil", False),
        ("https://portal.example:8443/oauth/callback", False),
        ("http://portal.example/oauth/callback", False),
        ("https://evilportal.example/oauth/callback", False),
    ],
)
async def test_the_browser_is_sent_only_below_the_registered_address(
    flow: Flow, redirect_uri: str, taken: bool
) -> None:
    address, query = await flow.authorize(redirect_uri=redirect_uri)
    assert (address, query.get("error")) == ((redirect_uri, None) if taken else (CALLBACK, "redirect_uri_mismatch"))


async def test_a_loopback_address_may_have_any_port(control: SimControl, session: Any, sim: Any, alice: Any) -> None:
    app = await control.create_oauth_app("http://127.0.0.1/callback", approve_as="alice")
    address, query = await Flow(session, sim.url, app).authorize(redirect_uri="http://127.0.0.1:51234/callback")
    assert (urlsplit(address).port, "code" in query) == (51234, True)


async def test_who_is_at_the_browser_can_be_another_or_disagree(api: Any, flow: Flow, control: SimControl) -> None:
    await control.create_user("bob")
    token = (await flow.exchange(await flow.code(login="bob")))["access_token"]
    assert (await api("GET", "/user", token=token)).body["login"] == "bob"
    await control.approve_oauth_as(flow.app.client_id, None)
    assert (await flow.authorize())[1]["error"] == "access_denied"


async def test_an_unknown_app_is_sent_nowhere(session: Any, sim: Any) -> None:
    address = f"{sim.url}/login/oauth/authorize"
    async with session.get(address, params={"client_id": "x", "redirect_uri": CALLBACK}) as response:
        assert response.status == 404


@pytest.mark.parametrize(("button", "what"), [("Authorize as alice", "code"), ("Cancel", "error")])
async def test_an_app_that_asks_shows_a_page_whose_buttons_agree_or_refuse(
    control: SimControl, session: Any, sim: Any, alice: Any, button: str, what: str
) -> None:
    app = await control.create_oauth_app(CALLBACK, asks=True)
    query = {"client_id": app.client_id, "state": "xyz", "scope": "<b>repo"}
    async with session.get(f"{sim.url}/login/oauth/authorize", params=query) as response:
        page = await response.text()
    assert "&lt;b&gt;repo" in page
    chosen = re.search(rf'value="(.*)">{button}</button>', page)
    assert chosen is not None

    address = f"{sim.url}/login/oauth/authorize"
    async with session.post(address, params=query, data={"login": chosen[1]}, allow_redirects=False) as response:
        sent = dict(parse_qsl(urlsplit(response.headers["Location"]).query))

    assert sent["state"] == "xyz"
    assert what in sent
