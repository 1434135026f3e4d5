"""GitHub Apps, their installations and tokens; and single sign-on, which asks nothing of them."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from devstack.githubsim import SimControl

NOT_FOR_APPS = "Resource not accessible by integration"


def signed(app: Any, clock: Any, **claims: Any) -> str:
    stated = {"iat": int(clock()) - 60, "exp": int(clock()) + 540, "iss": str(app.id)} | claims
    return jwt.encode(stated, app.private_key, algorithm="RS256")


@pytest.fixture
async def app(control: SimControl) -> Any:
    return await control.create_app("provider")


async def test_an_app_finds_its_installation_and_gets_a_token_that_works_for_an_hour(
    api: Any, acme: str, app: Any, clock: Any, control: SimControl
) -> None:
    number = await control.install_app(app.id, acme)
    token = signed(app, clock)
    assert (await api("GET", "/app", token=token)).body["slug"] == "provider"
    found = await api("GET", "/orgs/acme/installation", token=token)
    assert (found.body["id"], found.body["account"]["login"], found.body["app_slug"]) == (number, "acme", "provider")
    assert (await api("GET", f"/app/installations/{number}", token=token)).body == found.body
    assert (await api("GET", "/users/alice/installation", token=token)).status == 404

    minted = await api("POST", f"/app/installations/{number}/access_tokens", token=token)
    own = minted.body["token"]
    assert (minted.status, own[:4]) == (201, "ghs_")
    assert (await api("POST", "/orgs/acme/repos", token=own, json={"name": "site", "private": True})).status == 201
    assert (await api("GET", "/repos/acme/site", token=own)).status == 200
    clock.advance(3601)
    assert (await api("GET", "/repos/acme/site", token=own)).status == 401


async def test_an_installation_is_refused_what_is_for_users_or_beyond_its_permissions(
    api: Any, acme: str, app: Any, clock: Any, control: SimControl
) -> None:
    number = await control.install_app(app.id, acme, permissions={"metadata": "read"})
    minted = await api("POST", f"/app/installations/{number}/access_tokens", token=signed(app, clock))
    own = minted.body["token"]
    for method, path in (("GET", "/user"), ("POST", "/user/repos"), ("POST", "/orgs/acme/repos")):
        reply = await api(method, path, token=own, json={"name": "x"} if method == "POST" else None)
        assert (reply.status, reply.body["message"]) == (403, NOT_FOR_APPS)


async def test_a_jwt_must_be_the_apps_own_in_its_time_and_on_its_own_paths(
    api: Any, alice: Any, app: Any, clock: Any, control: SimControl
) -> None:
    other = await control.create_app("other")
    now = int(clock())
    for wrong in (
        signed(other, clock, iss=str(app.id)),
        signed(app, clock, exp=now - 1),
        signed(app, clock, exp=now + 3600),
        signed(app, clock, iat=now + 60),
        alice,
    ):
        assert (await api("GET", "/app", token=wrong)).status == 401
    assert (await api("GET", "/users/alice", token=signed(app, clock))).status == 401


async def test_a_suspended_installation_gives_no_token(
    api: Any, acme: str, app: Any, clock: Any, control: SimControl
) -> None:
    number = await control.install_app(app.id, acme)
    await control.edit_installation(number, suspended=True)
    reply = await api("POST", f"/app/installations/{number}/access_tokens", token=signed(app, clock))
    assert (reply.status, reply.body["message"]) == (403, "This installation has been suspended")


async def test_the_tokens_of_a_suspended_installation_do_nothing_until_it_goes_on(
    api: Any, acme: str, app: Any, clock: Any, control: SimControl
) -> None:
    number = await control.install_app(app.id, acme)
    minted = await api("POST", f"/app/installations/{number}/access_tokens", token=signed(app, clock))
    own = minted.body["token"]
    await control.edit_installation(number, suspended=True)
    for method, path in (("GET", "/users/alice"), ("POST", "/orgs/acme/repos")):
        refused = await api(method, path, token=own, json={"name": "site"} if method == "POST" else None)
        assert (refused.status, "suspended your access" in refused.body["message"]) == (403, True)
    await control.edit_installation(number, suspended=False)
    assert (await api("POST", "/orgs/acme/repos", token=own, json={"name": "site"})).status == 201


async def test_an_installation_is_no_collaborator_of_what_it_made(
    api: Any, acme: str, alice: Any, app: Any, clock: Any, control: SimControl
) -> None:
    number = await control.install_app(app.id, acme)
    minted = await api("POST", f"/app/installations/{number}/access_tokens", token=signed(app, clock))
    own = minted.body["token"]
    await api("POST", "/orgs/acme/repos", token=own, json={"name": "site"})
    people, bot = "/repos/acme/site/collaborators", "provider%5Bbot%5D"
    for token in (own, alice):
        for affiliation, logins in (("direct", []), ("outside", []), ("all", ["alice", "bob"])):
            listed = await api("GET", f"{people}?affiliation={affiliation}", token=token)
            assert [user["login"] for user in listed.body] == logins
        told = (await api("GET", f"{people}/{bot}/permission", token=token)).body
        assert (told["permission"], told["role_name"], told["user"]["role_name"]) == ("none", "none", "none")
        assert not any(told["user"]["permissions"].values())
        assert (await api("PUT", f"{people}/{bot}", token=token, json={})).status == 404
    await control.edit_repository("acme", "site", visibility="public")
    assert (await api("GET", f"{people}/{bot}/permission", token=alice)).body["permission"] == "none"
    assert await control.grants("acme", "site") == {}


async def test_single_sign_on_is_asked_of_tokens_that_were_not_authorised_for_it(
    api: Any, acme: str, alice: Any, control: SimControl
) -> None:
    await control.create_repository(acme, "ours")
    await control.edit_org(acme, saml=True)
    refused = await api("GET", "/repos/acme/ours", token=alice)
    assert refused.status == 403
    assert refused.headers["X-GitHub-SSO"].startswith("required; url=http")
    assert (await api("GET", "/users/acme", token=alice)).status == 200
    partial = await api("GET", "/user/repos", token=alice)
    assert (partial.body, partial.headers["X-GitHub-SSO"][:30]) == ([], "partial-results; organizations")
    await control.edit_token(alice.id, sso_orgs=[acme])
    assert (await api("GET", "/repos/acme/ours", token=alice)).status == 200
