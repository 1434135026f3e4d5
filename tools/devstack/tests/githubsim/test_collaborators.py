"""Collaborators and invitations."""

from __future__ import annotations

from typing import Any

import pytest

from devstack.githubsim import SimControl

PEOPLE, INVITED = "/repos/acme/web/collaborators", "/repos/acme/web/invitations"


@pytest.fixture
async def web(control: SimControl, acme: str) -> int:
    """acme/web, private; carol is a user outside the organisation. Its id."""
    await control.create_user("carol")
    return (await control.create_repository(acme, "web")).id


async def direct(api: Any, token: Any, path: str = PEOPLE) -> dict[str, str]:
    listed = await api("GET", f"{path}?affiliation=direct", token=token)
    return {user["login"]: user["role_name"] for user in listed.body}


async def test_a_member_of_the_organisation_is_granted_and_revoked_at_once(api: Any, alice: Any, web: int) -> None:
    assert (await api("PUT", f"{PEOPLE}/bob", token=alice, json={"permission": "push"})).status == 204
    assert await direct(api, alice) == {"bob": "write"}
    assert (await api("PUT", f"{PEOPLE}/bob", token=alice, json={"permission": "maintain"})).status == 204
    told = await api("GET", f"{PEOPLE}/bob/permission", token=alice)
    assert (told.body["permission"], told.body["role_name"]) == ("write", "maintain")
    for _ in range(2):
        assert (await api("DELETE", f"/repositories/{web}/collaborators/bob", token=alice)).status == 204
    assert await direct(api, alice) == {}


async def test_an_outsider_is_invited_and_has_access_when_it_accepts(
    api: Any, alice: Any, web: int, control: SimControl
) -> None:
    invited = await api("PUT", f"{PEOPLE}/carol", token=alice, json={"permission": "push"})
    assert (invited.status, invited.body["permissions"], invited.body["invitee"]["login"]) == (201, "write", "carol")
    assert (await api("GET", INVITED, token=alice)).body == [invited.body]
    assert await direct(api, alice) == {}
    one = f"{INVITED}/{invited.body['id']}"
    assert (await api("PATCH", one, token=alice, json={"permissions": "triage"})).body["permissions"] == "triage"
    assert (await api("PATCH", one, token=alice, json={"permissions": "push"})).status == 422
    await control.accept_invitation("acme", "web", "carol")
    assert await direct(api, alice) == {"carol": "triage"}
    assert (await api("GET", INVITED, token=alice)).body == []


async def test_a_new_invitation_is_listed_after_the_delay(
    api: Any, alice: Any, web: int, control: SimControl, clock: Any
) -> None:
    await control.set_switches(visibility_delay=10)
    invited = await api("PUT", f"{PEOPLE}/carol", token=alice, json={"permission": "push"})
    assert (await api("GET", INVITED, token=alice)).body == []
    assert (await api("PUT", f"{PEOPLE}/carol", token=alice, json={"permission": "push"})).body == invited.body
    clock.advance(10)
    assert (await api("GET", INVITED, token=alice)).body == [invited.body]


async def test_an_invitation_expires_after_a_week_and_still_shows(
    api: Any, alice: Any, web: int, clock: Any, control: SimControl
) -> None:
    invited = await api("PUT", f"{PEOPLE}/carol", token=alice, json={"permission": "pull"})
    clock.advance(7 * 86400)
    (shown,) = (await api("GET", INVITED, token=alice)).body
    assert (shown["id"], shown["expired"]) == (invited.body["id"], True)
    one = f"{INVITED}/{shown['id']}"
    assert (await api("DELETE", one, token=alice)).status == 204
    assert (await api("DELETE", one, token=alice)).status == 404


async def test_an_invitation_is_declined_or_made_to_expire_by_a_control_call(
    api: Any, alice: Any, web: int, control: SimControl
) -> None:
    await api("PUT", f"{PEOPLE}/carol", token=alice, json={})
    await control.expire_invitation("acme", "web", "carol")
    (shown,) = await control.invitations("acme", "web")
    assert (shown.login, shown.role, shown.expired) == ("carol", "write", True)
    await control.decline_invitation("acme", "web", "carol")
    assert await control.invitations("acme", "web") == []


@pytest.mark.parametrize(("permission", "status"), [("pull", 201), ("admin", 201), ("triage", 422), ("maintain", 422)])
async def test_a_users_repository_has_only_some_of_the_roles(
    api: Any, alice: Any, web: int, control: SimControl, permission: str, status: int
) -> None:
    await control.create_repository("alice", "demo")
    answer = await api("PUT", "/repos/alice/demo/collaborators/carol", token=alice, json={"permission": permission})
    assert answer.status == status
    assert await direct(api, alice, "/repos/alice/demo/collaborators") == {"alice": "admin"}


async def test_the_owner_and_who_does_not_exist_cannot_be_collaborators(
    api: Any, alice: Any, web: int, control: SimControl
) -> None:
    await control.create_repository("alice", "demo")
    assert (await api("PUT", "/repos/alice/demo/collaborators/alice", token=alice, json={})).status == 422
    assert (await api("PUT", f"{PEOPLE}/nobody", token=alice, json={})).status == 404


async def test_a_custom_role_is_granted_under_its_name(api: Any, alice: Any, web: int, control: SimControl) -> None:
    assert (await api("PUT", f"{PEOPLE}/bob", token=alice, json={"permission": "auditor"})).status == 422
    await control.edit_org("acme", custom_roles={"auditor": "triage"})
    assert (await api("PUT", f"{PEOPLE}/bob", token=alice, json={"permission": "auditor"})).status == 204
    (shown,) = (await api("GET", f"{PEOPLE}?affiliation=direct", token=alice)).body
    assert (shown["role_name"], shown["permissions"]["triage"], shown["permissions"]["push"]) == (
        "auditor",
        True,
        False,
    )


async def test_an_organisation_may_keep_outsiders_away(api: Any, alice: Any, web: int, control: SimControl) -> None:
    await control.edit_org("acme", outside_collaborators_allowed=False)
    assert (await api("PUT", f"{PEOPLE}/carol", token=alice, json={})).status == 403
    assert (await api("PUT", f"{PEOPLE}/bob", token=alice, json={})).status == 204


async def test_outsiders_are_invited_fifty_times_a_day_and_members_any_number(
    api: Any, alice: Any, web: int, clock: Any
) -> None:
    for _ in range(50):
        invited = await api("PUT", f"{PEOPLE}/carol", token=alice, json={})
        await api("DELETE", f"{INVITED}/{invited.body['id']}", token=alice)
    refused = await api("PUT", f"{PEOPLE}/carol", token=alice, json={})
    assert refused.status == 403
    assert "invitations" in refused.body["message"]
    assert (await api("PUT", f"{PEOPLE}/bob", token=alice, json={})).status == 204
    clock.advance(86400)
    assert (await api("PUT", f"{PEOPLE}/carol", token=alice, json={})).status == 201


async def test_a_role_through_a_team_is_not_a_direct_one(api: Any, alice: Any, web: int, control: SimControl) -> None:
    await control.edit_org("acme", default_repository_permission="none")
    await control.set_team("acme", "ops", members=["bob"], repositories={"web": "maintain"})
    assert await direct(api, alice) == {}
    everybody = {user["login"]: user["role_name"] for user in (await api("GET", PEOPLE, token=alice)).body}
    assert everybody == {"alice": "admin", "bob": "maintain"}
    # Beside a grant of one's own it is the team's role that is shown.
    assert (await api("PUT", f"{PEOPLE}/bob", token=alice, json={"permission": "pull"})).status == 204
    assert await direct(api, alice) == {"bob": "maintain"}
    assert await control.grants("acme", "web") == {"bob": "read"}


async def test_who_has_access_from_any_source_is_a_collaborator_and_who_is_only_invited_is_none(
    api: Any, alice: Any, web: int, control: SimControl
) -> None:
    await control.edit_org("acme", default_repository_permission="none")

    async def told(login: str) -> int:
        reply = await api("GET", f"/repositories/{web}/collaborators/{login}", token=alice)
        return reply.status

    assert [await told(login) for login in ("alice", "bob", "carol", "nobody")] == [204, 404, 404, 404]
    await api("PUT", f"{PEOPLE}/carol", token=alice, json={})
    assert await told("carol") == 404
    await control.accept_invitation("acme", "web", "carol")
    assert await told("Carol") == 204
    await control.set_team("acme", "ops", members=["bob"], repositories={"web": "read"})
    assert await told("bob") == 204
    await control.set_team("acme", "ops", members=[])
    assert await told("bob") == 404
    await control.edit_org("acme", default_repository_permission="read")
    assert await told("bob") == 204


async def test_a_person_grants_and_withdraws_on_the_host(api: Any, alice: Any, web: int, control: SimControl) -> None:
    await control.edit_repository("acme", "web", grants={"carol": "admin"})
    assert await control.grants("acme", "web") == {"carol": "admin"}
    await control.edit_repository("acme", "web", grants={"carol": None})
    assert await direct(api, alice) == {}


@pytest.mark.parametrize(("base", "least"), [("none", "pull"), ("read", "pull"), ("write", "push"), ("admin", "admin")])
async def test_a_member_is_given_no_less_than_the_organisations_base_permission(
    api: Any, alice: Any, web: int, control: SimControl, base: str, least: str
) -> None:
    await control.edit_org("acme", default_repository_permission=base, custom_roles={"auditor": "triage"})
    order = ["pull", "triage", "auditor", "push", "maintain", "admin"]
    for permission in order:
        answer = await api("PUT", f"{PEOPLE}/bob", token=alice, json={"permission": permission})
        assert answer.status == (204 if order.index(permission) >= order.index(least) else 422)
        if answer.status == 422:
            assert "Cannot assign bob permission of " in str(answer.body["errors"])
    assert (await api("PUT", f"{PEOPLE}/carol", token=alice, json={"permission": "pull"})).status == 201


async def test_a_collaborator_leaves_by_itself(api: Any, web: int, control: SimControl) -> None:
    await control.create_user("dora")
    await control.edit_repository("acme", "web", grants={"carol": "read", "dora": "read"})
    carol = await control.create_token("carol")
    assert (await api("DELETE", f"{PEOPLE}/dora", token=carol)).status == 404
    assert (await api("DELETE", f"{PEOPLE}/Carol", token=carol)).status == 204
    assert await control.grants("acme", "web") == {"dora": "read"}
    assert (await api("DELETE", f"{PEOPLE}/carol", token=carol)).status == 404, (
        "it does not see the repository any more"
    )


async def test_who_may_push_sees_the_collaborators_and_administrators_the_invitations(
    api: Any, web: int, control: SimControl
) -> None:
    tokens = [
        await control.create_token("bob"),
        await control.create_token("bob", kind="fine-grained", resource_owner="acme"),
    ]
    views = (
        (PEOPLE, 200, "repository collaborators"),
        (f"{PEOPLE}/bob", 204, "repository collaborators"),
        (f"{PEOPLE}/bob/permission", 200, "collaborator permission"),
    )
    for role, may in (("read", False), ("triage", False), ("write", True), ("maintain", True)):
        await control.edit_repository("acme", "web", grants={"bob": role})
        for token in tokens:
            for path, status, viewed in views:
                reply = await api("GET", path, token=token)
                assert reply.status == (status if may else 403)
                assert may or reply.body["message"] == f"Must have push access to view {viewed}."
            assert (await api("GET", INVITED, token=token)).status == 404
            assert (await api("PUT", f"{PEOPLE}/carol", token=token, json={})).status == 404
