"""What each kind of credential sees and may do, and what the answers say of it."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import pytest

from devstack.githubsim import GithubSim, SimControl

NO_ADMIN = "Must have admin rights to Repository."
OUT_OF_REACH = "Resource not accessible by personal access token"


async def test_a_classic_token_is_told_its_scopes_and_the_accepted_ones(
    api: Any, alice: Any, control: SimControl
) -> None:
    await control.create_repository("alice", "demo")
    reply = await api("GET", "/repos/alice/demo", token=alice)
    assert reply.headers["X-OAuth-Scopes"] == "delete_repo, repo, user"
    assert reply.headers["X-Accepted-OAuth-Scopes"] == "repo"
    assert "X-Accepted-GitHub-Permissions" not in reply.headers


async def test_a_fine_grained_token_is_told_the_permissions_and_no_scopes(
    api: Any, alice: Any, control: SimControl
) -> None:
    token = await control.create_token("alice", kind="fine-grained")
    created = await api("POST", "/user/repos", token=token, json={"name": "demo", "private": True})
    assert created.status == 201
    assert created.headers["X-Accepted-GitHub-Permissions"] == "administration=write"
    assert "X-OAuth-Scopes" not in created.headers
    assert "X-Accepted-OAuth-Scopes" not in created.headers


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("classic", r"ghp_[0-9A-Za-z]{36}"),
        ("oauth", r"gho_[0-9A-Za-z]{36}"),
        ("fine-grained", r"github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59}"),
    ],
)
async def test_an_issued_token_has_the_shape_of_its_kind_and_does_not_show_itself(
    alice: Any, control: SimControl, kind: Any, shape: str
) -> None:
    token = await control.create_token("alice", kind=kind)
    assert re.fullmatch(shape, token.value)
    assert token.value not in repr(token)


@pytest.mark.parametrize("header", ["Bearer {}", "token {}", "bearer {}"])
async def test_a_token_is_taken_under_either_scheme(api: Any, alice: Any, header: str) -> None:
    reply = await api("GET", "/user", headers={"Authorization": header.format(alice.value)})
    assert reply.body["login"] == "alice"


async def test_a_token_is_taken_as_the_password_of_basic_authentication(api: Any, alice: Any) -> None:
    header = aiohttp.encode_basic_auth("alice", alice.value)
    assert (await api("GET", "/user", headers={"Authorization": header})).body["login"] == "alice"


async def test_a_credential_that_was_never_issued_is_bad(api: Any) -> None:
    reply = await api("GET", "/user", token="ghp_nobodysToken")
    assert reply.status == 401
    assert reply.body == {
        "message": "Bad credentials",
        "documentation_url": "https://docs.github.com/rest",
        "status": "401",
    }
    assert "X-OAuth-Scopes" not in reply.headers


async def test_a_revoked_or_expired_token_is_bad(api: Any, alice: Any, control: SimControl, clock: Any) -> None:
    short = await control.create_token("alice", expires_in=3600)
    reply = await api("GET", "/user", token=short)
    assert reply.headers["github-authentication-token-expiration"] == "2026-09-21 15:13:20 UTC"
    clock.advance(3600)
    assert (await api("GET", "/user", token=short)).status == 401
    await control.revoke_token(alice.id)
    assert (await api("GET", "/user", token=alice)).status == 401


async def test_without_a_credential_only_public_things_are_readable(api: Any, alice: Any, control: SimControl) -> None:
    await control.create_repository("alice", "open", visibility="public")
    await control.create_repository("alice", "closed")
    opened = await api("GET", "/repos/alice/open")
    assert opened.status == 200
    assert "permissions" not in opened.body
    assert (await api("GET", "/repos/alice/closed")).status == 404
    assert (await api("GET", "/user")).body["message"] == "Requires authentication"
    assert (await api("PATCH", "/repos/alice/open", json={})).status == 401


async def test_a_private_repository_is_404_to_strangers_and_to_tokens_without_the_repo_scope(
    api: Any, alice: Any, control: SimControl
) -> None:
    demo = await control.create_repository("alice", "demo")
    await control.create_user("mallory")
    narrow = await control.create_token("alice", scopes=["public_repo"])
    for token in (await control.create_token("mallory"), narrow):
        for path in ("/repos/alice/demo", f"/repositories/{demo.id}", "/repos/alice/demo/branches"):
            reply = await api("GET", path, token=token)
            assert (reply.status, reply.body["message"]) == (404, "Not Found")


async def test_a_token_without_a_repo_scope_cannot_create_and_public_repo_only_creates_public_ones(
    api: Any, alice: Any, control: SimControl
) -> None:
    bare = await control.create_token("alice", scopes=[])
    public = await control.create_token("alice", kind="oauth", scopes=["public_repo"])
    assert (await api("POST", "/user/repos", token=bare, json={"name": "a"})).status == 404
    assert (await api("POST", "/user/repos", token=public, json={"name": "a", "private": True})).status == 404
    assert (await api("POST", "/user/repos", token=public, json={"name": "a"})).status == 201


async def test_deleting_without_delete_repo_is_403_and_no_rate_limit(api: Any, alice: Any, control: SimControl) -> None:
    await control.create_repository("alice", "demo")
    token = await control.create_token("alice", scopes=["repo"])
    refused = await api("DELETE", "/repos/alice/demo", token=token)
    assert (refused.status, refused.body["message"]) == (403, NO_ADMIN)
    assert int(refused.headers["X-RateLimit-Remaining"]) > 0
    assert "Retry-After" not in refused.headers
    assert refused.headers["X-Accepted-OAuth-Scopes"] == "delete_repo"


async def test_a_reader_may_not_change_a_public_repository(api: Any, alice: Any, control: SimControl) -> None:
    await control.create_user("carol")
    await control.create_repository("carol", "open", visibility="public")
    refused = await api("PATCH", "/repos/carol/open", token=alice, json={"description": "x"})
    assert (refused.status, refused.body["message"]) == (403, NO_ADMIN)


async def test_a_fine_grained_token_without_the_permission_is_refused(
    api: Any, alice: Any, control: SimControl
) -> None:
    await control.create_repository("alice", "demo", branches=["main"])
    token = await control.create_token("alice", kind="fine-grained", permissions={"metadata": "read"})
    assert (await api("GET", "/repos/alice/demo", token=token)).status == 200
    for method, path, body in (
        ("POST", "/user/repos", {"name": "other"}),
        ("PATCH", "/repos/alice/demo", {"description": "x"}),
        ("DELETE", "/repos/alice/demo", None),
        ("GET", "/repos/alice/demo/branches", None),
    ):
        refused = await api(method, path, token=token, json=body)
        assert (refused.status, refused.body["message"]) == (403, OUT_OF_REACH)


async def test_a_fine_grained_token_reaches_its_resource_owner_only(api: Any, acme: str, control: SimControl) -> None:
    await control.create_repository("alice", "mine")
    await control.create_repository(acme, "ours")
    token = await control.create_token("alice", kind="fine-grained", resource_owner=acme)
    assert (await api("GET", "/repos/acme/ours", token=token)).status == 200
    assert (await api("GET", "/repos/alice/mine", token=token)).status == 404
    assert (await api("POST", "/user/repos", token=token, json={"name": "x"})).status == 403
    assert (await api("POST", "/orgs/acme/repos", token=token, json={"name": "x"})).status == 201


async def test_merge_settings_are_left_out_for_a_token_that_cannot_write_contents(
    api: Any, alice: Any, control: SimControl
) -> None:
    await control.create_repository("alice", "demo")
    token = await control.create_token("alice", kind="fine-grained", permissions={"administration": "write"})
    assert "allow_squash_merge" not in (await api("GET", "/repos/alice/demo", token=token)).body
    assert (await api("GET", "/repos/alice/demo", token=alice)).body["allow_squash_merge"] is True


async def test_an_organisation_that_the_token_cannot_see_is_404_with_all_that_is_in_it(
    api: Any, acme: str, alice: Any, control: SimControl
) -> None:
    await control.create_repository(acme, "demo")
    blind = await control.create_token("alice", hidden_orgs=[acme])
    for path in ("/orgs/acme", "/users/acme", "/orgs/acme/repos", "/repos/acme/demo"):
        assert (await api("GET", path, token=blind)).status == 404
        assert (await api("GET", path, token=alice)).status == 200
    assert (await api("POST", "/orgs/acme/repos", token=blind, json={"name": "x"})).status == 404


async def test_a_hidden_organisation_is_404_to_outsiders(api: Any, acme: str, alice: Any, control: SimControl) -> None:
    await control.edit_org(acme, hidden=True)
    await control.create_user("mallory")
    assert (await api("GET", "/orgs/acme", token=await control.create_token("mallory"))).status == 404
    assert (await api("GET", "/orgs/acme", token=alice)).status == 200


async def test_a_member_reads_what_the_organisations_base_permission_opens(
    api: Any, acme: str, control: SimControl
) -> None:
    await control.create_repository(acme, "demo")
    bob = await control.create_token("bob")
    assert (await api("GET", "/repos/acme/demo", token=bob)).body["permissions"]["push"] is False
    await control.edit_org(acme, default_repository_permission="none")
    assert (await api("GET", "/repos/acme/demo", token=bob)).status == 404


async def test_a_request_without_a_user_agent_is_refused(
    sim: GithubSim, alice: Any, session: aiohttp.ClientSession
) -> None:
    headers = {"Authorization": f"Bearer {alice.value}"}
    async with session.get(f"{sim.url}/user", headers=headers, skip_auto_headers=["User-Agent"]) as response:
        assert response.status == 403
        assert "User-Agent" in await response.text()
