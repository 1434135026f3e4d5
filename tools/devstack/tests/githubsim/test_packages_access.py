"""Who is served packages, and which."""

from __future__ import annotations

from typing import Any

import pytest

from devstack.githubsim import SimControl

LIST, ONE = "/orgs/acme/packages?package_type=container", "/orgs/acme/packages/container/web"
READ = ["read:packages"]


@pytest.fixture
async def web(control: SimControl, acme: str) -> str:
    """acme's container package `web`, private, with one version and no repository."""
    await control.publish_package(acme, "container", "web")
    await control.publish_version(acme, "container", "web")
    return "web"


def names(reply: Any) -> list[str]:
    assert reply.status == 200, reply.body
    return [row["name"] for row in reply.body]


@pytest.mark.parametrize("kind", ["classic", "oauth"])
async def test_a_token_needs_the_scope(api: Any, web: str, control: SimControl, kind: Any) -> None:
    token = await control.create_token("alice", kind=kind)
    for path, purpose in (
        (LIST, "to list packages"),
        (ONE, "to get a package"),
        (f"{ONE}/versions", "to get a package's versions"),
    ):
        refused = await api("GET", path, token=token)
        assert (refused.status, refused.body["message"]) == (403, f"You need at least read:packages scope {purpose}.")
        assert refused.headers["X-Accepted-OAuth-Scopes"] == "read:packages"
    await control.edit_token(token.id, scopes=READ)
    assert names(await api("GET", LIST, token=token)) == ["web"]
    assert len((await api("GET", f"{ONE}/versions", token=token)).body) == 1


async def test_nobody_is_served_without_a_token(api: Any, web: str) -> None:
    assert (await api("GET", LIST)).status == 401
    assert (await api("GET", f"{ONE}/versions")).status == 401


async def test_a_fine_grained_token_is_refused(api: Any, web: str, control: SimControl) -> None:
    token = await control.create_token(
        "alice", kind="fine-grained", permissions={"packages": "write"}, resource_owner="acme"
    )
    for path in (LIST, ONE, f"{ONE}/versions"):
        refused = await api("GET", path, token=token)
        assert (refused.status, refused.body["message"]) == (403, "Resource not accessible by personal access token")


async def test_an_apps_token_is_refused(api: Any, web: str, control: SimControl, installed: Any) -> None:
    refused = await api("GET", LIST, token=installed)
    assert (refused.status, refused.body["message"]) == (400, "Invalid argument.")
    for path in (ONE, f"{ONE}/versions"):
        assert (await api("GET", path, token=installed)).status == 404
    assert (await api("GET", "/user/packages?package_type=container", token=installed)).status == 403


@pytest.fixture
async def installed(sim: Any, control: SimControl, acme: str) -> str:
    """A token of an App that is installed on acme with the permission for packages."""
    app = await control.create_app("robot")
    number = await control.install_app(app.id, acme, permissions={"packages": "write", "metadata": "read"})
    world = sim.simulation.world
    return world.new_installation_token(world.installations[number]).value


@pytest.mark.parametrize("query", ["", "?package_type=", "?package_type=cargo", "?package_type=npm&visibility=secret"])
async def test_a_list_needs_a_type_that_there_is(api: Any, acme: str, control: SimControl, query: str) -> None:
    token = await control.create_token("alice", scopes=READ)
    for owner in ("/orgs/acme", "/users/alice", "/user"):
        refused = await api("GET", f"{owner}/packages{query}", token=token)
        assert (refused.status, refused.body["message"]) == (400, "Invalid argument.")


async def test_each_kind_of_account_has_its_own_address(api: Any, acme: str, control: SimControl) -> None:
    token = await control.create_token("alice", scopes=READ)
    await control.publish_package("alice", "container", "tool")
    for path in ("/orgs/alice", "/users/acme", "/users/nobody", "/orgs/nobody"):
        assert (await api("GET", f"{path}/packages?package_type=container", token=token)).status == 404
        assert (await api("GET", f"{path}/packages/container/tool/versions", token=token)).status == 404
    for path in ("/users/alice", "/user"):
        assert names(await api("GET", f"{path}/packages?package_type=container", token=token)) == ["tool"]
        one = await api("GET", f"{path}/packages/container/tool", token=token)
        assert one.body["url"].endswith("/users/alice/packages/container/tool")
        assert (await api("GET", f"{path}/packages/container/tool/versions", token=token)).body == []


async def test_a_private_package_is_for_those_with_access(api: Any, web: str, acme: str, control: SimControl) -> None:
    await control.create_user("eve")
    tokens = {login: await control.create_token(login, scopes=READ) for login in ("alice", "bob", "eve")}

    async def seen() -> list[str]:
        for login, token in tokens.items():
            listed = bool(names(await api("GET", LIST, token=token)))
            assert ((await api("GET", f"{ONE}/versions", token=token)).status == 200) == listed, login
        return [login for login, token in tokens.items() if names(await api("GET", LIST, token=token))]

    assert await seen() == ["alice"]
    await control.edit_package(acme, "container", "web", visibility="internal")
    assert await seen() == ["alice", "bob"]
    await control.edit_package(acme, "container", "web", visibility="public")
    assert await seen() == ["alice", "bob", "eve"]
    await control.edit_package(acme, "container", "web", visibility="private")
    await control.create_repository(acme, "shop", grants={"eve": "read"})
    await control.edit_org(acme, default_repository_permission="none")
    await control.edit_package(acme, "container", "web", repository="shop")
    assert await seen() == ["alice", "eve"]


async def test_a_private_repository_is_not_shown_to_outsiders_of_a_public_package(
    api: Any, web: str, acme: str, control: SimControl
) -> None:
    await control.create_user("eve")
    await control.create_repository(acme, "shop")
    await control.edit_package(acme, "container", "web", visibility="public", repository="shop")
    rows = [
        (await api("GET", ONE, token=await control.create_token(login, scopes=READ))).body for login in ("alice", "eve")
    ]
    assert ["repository" in row for row in rows] == [True, False]


async def test_a_package_of_a_private_repository_needs_the_scope_for_repositories(
    api: Any, acme: str, control: SimControl
) -> None:
    await control.create_repository(acme, "shop")
    await control.publish_package(acme, "maven", "com.example", repository="shop")
    path = "/orgs/acme/packages?package_type=maven"
    assert names(await api("GET", path, token=await control.create_token("alice", scopes=READ))) == []
    both = await control.create_token("alice", scopes=[*READ, "repo"])
    assert names(await api("GET", path, token=both)) == ["com.example"]


async def test_a_list_is_filtered_by_visibility(api: Any, web: str, acme: str, control: SimControl) -> None:
    token = await control.create_token("alice", scopes=READ)
    await control.publish_package(acme, "container", "open", visibility="public")
    for visibility, listed in (("public", ["open"]), ("private", ["web"]), ("internal", [])):
        assert names(await api("GET", f"{LIST}&visibility={visibility}", token=token)) == listed


async def test_an_organisation_with_single_sign_on_wants_the_token_authorised(
    api: Any, web: str, acme: str, control: SimControl
) -> None:
    token = await control.create_token("alice", scopes=READ)
    await control.edit_org(acme, saml=True)
    refused = await api("GET", LIST, token=token)
    assert (refused.status, "X-GitHub-SSO" in refused.headers) == (403, True)
    await control.edit_token(token.id, sso_orgs=[acme])
    assert names(await api("GET", LIST, token=token)) == ["web"]
