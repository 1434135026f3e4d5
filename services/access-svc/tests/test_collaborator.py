"""Collaborator: state in, one pass, state out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from codecommon.api.access import Collaborator
from codecommon.api.annotations import RECONCILE_REQUESTED_AT
from codecommon.api.results import NotReady, Ready, Retryable, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import Grant, HostRepository, HostUnavailable, Invitation, Listed
from codecommon.testing.builders import collaborator_object, condition, made_repository, validated_connection
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import World, conditions, message
from codecommon.testing.repositories import record_repository


class Killed(BaseException):
    """The process dies here."""


def done(host: StubBackend) -> list[str]:
    return [method for method, _ in host.writes]


def is_due(world: World, users: Controller[Collaborator]) -> bool:
    return users.is_due(world.start(users, "alice").object, datetime.now(UTC))


def moment(ago: timedelta) -> str:
    return (datetime.now(UTC) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")


def later(time: timedelta) -> datetime:
    return datetime.now(UTC) + time


def pass_by(world: World, time: timedelta) -> None:
    """The invitation was sent that long ago."""
    world.kcp.edit("collaborators", "alice", {"status": {"invitedAt": moment(time)}})


def ask_again(world: World, value: str) -> None:
    world.kcp.edit("collaborators", "alice", {"metadata": {"annotations": {RECONCILE_REQUESTED_AT: value}}})


def count_calls(host: StubBackend, method: str) -> list[tuple[Any, ...]]:
    """Collects the arguments of each call from now on, also of those that change nothing."""
    calls: list[tuple[Any, ...]] = []
    real = getattr(host, method)

    async def counted(*given: Any) -> Any:
        calls.append(given)
        return await real(*given)

    setattr(host, method, counted)
    return calls


@pytest.fixture
def team_site(world: World, host: StubBackend) -> HostRepository:
    """``site`` in an organisation."""
    seen = host.add_repository("acme", "site")
    raw = made_repository(repo_id=seen.id)
    raw["status"]["owner"] = "acme"
    world.add(raw)
    return seen


async def test_a_stranger_is_invited_and_the_acceptance_is_noticed_without_a_change_of_spec(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    world.add(collaborator_object())
    result = await world.reconcile(users, "alice")
    assert isinstance(result, NotReady)
    invitation = host.repositories[site.id].invited["alice"]
    assert invitation.role == "push"
    assert conditions(world.stored("collaborators", "alice")) == {
        "Ready": ("False", "InvitationPending"),
        "Reconciling": ("True", "InvitationPending"),
        "InvitationPending": ("True", "AwaitingAcceptance"),
    }
    assert world.stored("collaborators", "alice")["status"]["invitationID"] == invitation.id

    host.writes.clear()
    await world.reconcile(users, "alice")
    host.accept(site.id, "alice")
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert conditions(world.stored("collaborators", "alice")) == {"Ready": ("True", "Reconciled")}
    assert "invitationID" not in world.stored("collaborators", "alice")["status"]
    assert world.stored("collaborators", "alice")["status"]["origin"] == "Created"
    assert host.writes == []


async def test_a_member_of_the_organisation_has_access_at_once(
    world: World, users: Controller[Collaborator], host: StubBackend, team_site: HostRepository
) -> None:
    host.members["acme"] = {"alice"}
    host.custom_roles.add("releaser")
    world.add(collaborator_object(permission="releaser"))
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert host.repositories[team_site.id].granted == {"alice": "releaser"}
    host.writes.clear()
    await world.reconcile(users, "alice")
    assert host.writes == []


@pytest.mark.parametrize("role", ["push", "admin"])
async def test_a_list_that_leaves_out_an_owner_for_long_costs_no_write_per_resync(
    world: World, users: Controller[Collaborator], host: StubBackend, team_site: HostRepository, role: str
) -> None:
    host.members["acme"] = host.org_owners["acme"] = {"alice"}
    host.unlisted.add("alice")
    world.add(collaborator_object(permission=role))
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    world.kcp.requests.clear()
    calls = count_calls(host, "set_collaborator")
    for _ in range(10):
        assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert calls == []
    assert len(world.kcp.writes("collaborators")) <= (role != "admin"), "once, that the role is wider"
    host.unlisted.clear()
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert calls == []


async def test_a_grant_that_the_list_leaves_out_for_long_is_neither_given_again_nor_taken_for_declined(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    pass_by(world, timedelta(hours=1))
    host.accept(site.id, "alice")
    host.unlisted.add("alice")
    calls = count_calls(host, "set_collaborator")
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    world.kcp.requests.clear()
    for listed in (False, True) * 5:
        host.unlisted = set() if listed else {"alice"}
        assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert (calls, world.kcp.writes("collaborators")) == ([], [])

    host.unlisted.clear()
    host.repositories[site.id].granted.clear()
    assert isinstance(await world.reconcile(users, "alice"), NotReady), "what is really gone is given again"
    assert len(calls) == 1


async def test_the_owner_of_a_repository_that_moved_to_them_is_refused_without_a_call_per_resync(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    host.rename(site.id, "site", owner="alice")
    host.unlisted.add("alice")
    world.add(collaborator_object())
    calls = count_calls(host, "set_collaborator")
    await world.reconcile(users, "alice")
    world.kcp.requests.clear()
    for _ in range(10):
        result = await world.reconcile(users, "alice")
        assert isinstance(result, Terminal)
        assert result.reason == "PermissionUnsupported"
    assert (calls, world.kcp.writes("collaborators")) == ([], [])


async def test_access_that_ends_takes_nothing_away_again_and_again_that_the_list_leaves_out(
    world: World, users: Controller[Collaborator], host: StubBackend, team_site: HostRepository
) -> None:
    host.members["acme"] = host.org_owners["acme"] = {"alice"}
    host.unlisted.add("alice")
    world.add(collaborator_object(expiresAt=moment(timedelta(hours=-1))))
    await world.reconcile(users, "alice")
    world.now = lambda: datetime.now(UTC) + timedelta(hours=2)
    await world.reconcile(users, "alice")
    calls = count_calls(host, "remove_collaborator")
    for _ in range(3):
        assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert calls == []


async def test_access_stays_with_its_repository_when_the_organisation_is_renamed(
    world: World, users: Controller[Collaborator], host: StubBackend, team_site: HostRepository
) -> None:
    host.members["acme"] = {"alice"}
    world.add(collaborator_object(permission="triage"))
    await world.reconcile(users, "alice")
    host.rename(team_site.id, "site", owner="acme-next")
    host.add_repository("acme", "site")
    world.add(validated_connection("moved", owner="acme-next"))
    world.kcp.edit("repositories", "site", {"spec": {"connectionRef": "moved"}, "status": {"owner": "acme-next"}})
    host.writes.clear()

    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert host.writes == []


async def test_a_changed_permission_and_drift_are_repaired(
    world: World, users: Controller[Collaborator], host: StubBackend, team_site: HostRepository
) -> None:
    host.members["acme"] = {"alice"}
    world.add(collaborator_object(permission="triage"))
    await world.reconcile(users, "alice")
    world.kcp.edit("collaborators", "alice", {"spec": {"permission": "maintain"}})
    await world.reconcile(users, "alice")
    granted = host.repositories[team_site.id].granted
    assert granted == {"alice": "maintain"}
    granted["alice"] = "pull"
    await world.reconcile(users, "alice")
    assert granted == {"alice": "maintain"}
    granted.clear()
    await world.reconcile(users, "alice")
    assert granted == {"alice": "maintain"}


async def test_the_role_of_an_open_invitation_follows_spec(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    world.add(collaborator_object(permission="pull"))
    await world.reconcile(users, "alice")
    world.kcp.edit("collaborators", "alice", {"spec": {"permission": "admin"}})
    await world.reconcile(users, "alice")
    assert host.repositories[site.id].invited["alice"].role == "admin"
    assert done(host) == ["set_collaborator", "update_invitation"]


async def test_an_invitation_that_is_accepted_while_its_role_is_changed_is_tried_again_and_the_grant_changed(
    world: World,
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.add(collaborator_object(permission="pull"))
    await world.reconcile(users, "alice")
    world.kcp.edit("collaborators", "alice", {"spec": {"permission": "admin"}})
    update_invitation = host.update_invitation

    async def too_late(repo_id: str, invitation_id: str, role: str) -> None:
        host.accept(site.id, "alice")
        await update_invitation(repo_id, invitation_id, role)

    monkeypatch.setattr(host, "update_invitation", too_late)
    assert isinstance(await world.reconcile(users, "alice"), Retryable)
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert host.repositories[site.id].granted == {"alice": "admin"}


async def test_a_bot_is_told_how_apps_get_access_before_anything_is_sent(
    world: World, users: Controller[Collaborator], host: StubBackend
) -> None:
    world.add(collaborator_object(username="helper[bot]"))
    for method in ("list_collaborators", "get_owner_kind", "get_user_id", "set_collaborator"):
        host.raise_next(method, AssertionError("the host was called"))

    result = await world.reconcile(users, "alice")

    assert isinstance(result, Terminal)
    assert result.reason == "InvalidName"
    assert "gets access by its installation" in result.message
    assert "delete this object" in result.message
    assert "helper[bot]" in result.message


@pytest.mark.parametrize("username", ["@alice", "alice@example.com", "a/b"])
async def test_a_username_that_is_no_login_is_refused_before_anything_is_written_or_asked(
    world: World, users: Controller[Collaborator], host: StubBackend, username: str
) -> None:
    world.add(collaborator_object(username=username))
    for method in ("list_collaborators", "get_owner_kind", "get_user_id", "set_collaborator"):
        host.raise_next(method, AssertionError("the host was called"))
    for _ in range(2):
        result = await world.reconcile(users, "alice")
        assert isinstance(result, Terminal)
        assert result.reason == "InvalidName"
        assert f"spec.username {username!r} is not a GitHub login" in result.message
        assert "make a new object" in result.message
    assert [write.subresource for write in world.kcp.writes("collaborators")] == ["status"]


@pytest.mark.parametrize("permission", ["triage", "maintain", "releaser"])
async def test_a_role_that_a_users_repository_does_not_know_is_refused_before_the_call(
    world: World, users: Controller[Collaborator], host: StubBackend, permission: str
) -> None:
    world.add(collaborator_object(permission=permission))
    host.raise_next("set_collaborator", AssertionError("the host was called"))
    result = await world.reconcile(users, "alice")
    assert isinstance(result, Terminal)
    assert result.reason == "PermissionUnsupported"


async def test_after_a_transfer_to_an_organisation_its_roles_can_be_given(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    world.add(collaborator_object(permission="maintain"))
    assert isinstance(await world.reconcile(users, "alice"), Terminal)
    host.rename(site.id, "site", owner="acme")
    host.members["acme"] = {"alice"}
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert host.repositories[site.id].granted == {"alice": "maintain"}


async def test_the_owner_of_a_repository_is_no_collaborator(
    world: World, users: Controller[Collaborator], host: StubBackend
) -> None:
    world.add(collaborator_object(username="Octocat"))
    result = await world.reconcile(users, "alice")
    assert isinstance(result, Terminal)
    assert result.reason == "PermissionUnsupported"
    assert host.writes == []


async def test_an_expired_invitation_is_sent_anew_three_times_at_most(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    world.add(collaborator_object())
    for sent in range(1, 4):
        assert isinstance(await world.reconcile(users, "alice"), NotReady)
        assert world.stored("collaborators", "alice")["status"]["invitations"] == sent
        host.expire(site.id, "alice")
    result = await world.reconcile(users, "alice")
    assert isinstance(result, Terminal)
    assert result.reason == "InvitationExpired"
    assert conditions(world.stored("collaborators", "alice"))["InvitationPending"] == ("False", "NotAccepted")
    assert done(host).count("set_collaborator") == 3
    assert isinstance(await world.reconcile(users, "alice"), Terminal)

    ask_again(world, "now")
    assert isinstance(await world.reconcile(users, "alice"), NotReady)
    assert world.stored("collaborators", "alice")["status"]["invitations"] == 1
    assert conditions(world.stored("collaborators", "alice"))["InvitationPending"] == ("True", "AwaitingAcceptance")


async def test_an_expired_invitation_that_the_host_lists_no_more_is_sent_anew_three_times_at_most(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    world.add(collaborator_object())
    for sent in range(1, 4):
        assert isinstance(await world.reconcile(users, "alice"), NotReady)
        assert world.stored("collaborators", "alice")["status"]["invitations"] == sent
        pass_by(world, timedelta(days=7))
        host.decline(site.id, "alice")
    for _ in range(2):
        result = await world.reconcile(users, "alice")
        assert isinstance(result, Terminal)
        assert result.reason == "InvitationExpired"
    assert done(host).count("set_collaborator") == 3


def an_annotation(world: World) -> None:
    ask_again(world, "now")


def an_edit(world: World) -> None:
    world.kcp.edit("collaborators", "alice", {"spec": {"permission": "pull"}})


@pytest.mark.parametrize("asking", [an_annotation, an_edit])
async def test_somebody_who_declines_is_not_asked_again_unless_a_person_says_so(
    world: World,
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    asking: Callable[[World], None],
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    host.decline(site.id, "alice")
    for ago in (timedelta(minutes=5), timedelta(days=6), timedelta(days=8), timedelta(days=365)):
        pass_by(world, ago)
        result = await world.reconcile(users, "alice")
        assert isinstance(result, Terminal)
        assert result.reason == "InvitationDeclined"
        assert conditions(world.stored("collaborators", "alice"))["InvitationPending"] == ("False", "Declined")
    assert done(host) == ["set_collaborator"]

    asking(world)
    await world.reconcile(users, "alice")
    assert "alice" in host.repositories[site.id].invited
    assert world.stored("collaborators", "alice")["status"]["invitations"] == 1
    assert conditions(world.stored("collaborators", "alice"))["InvitationPending"] == ("True", "AwaitingAcceptance")


async def test_other_trouble_meanwhile_makes_no_expired_invitation_of_a_declined_one(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    host.decline(site.id, "alice")
    pass_by(world, timedelta(minutes=5))
    await world.reconcile(users, "alice")
    pass_by(world, timedelta(days=8))
    for trouble in (HostUnavailable("502"), Terminal("MissingPermission", "no")):
        host.raise_next("list_collaborators", trouble)
        await world.reconcile(users, "alice")
    result = await world.reconcile(users, "alice")
    assert isinstance(result, Terminal)
    assert result.reason == "InvitationDeclined"
    assert done(host) == ["set_collaborator"]


async def test_a_declined_invitation_is_not_sent_to_a_repository_made_in_the_place_of_a_lost_one(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    host.decline(site.id, "alice")
    pass_by(world, timedelta(minutes=5))
    await world.reconcile(users, "alice")
    del host.repositories[site.id]
    made = host.add_repository("octocat", "site")
    world.kcp.edit("repositories", "site", {"status": {"repoID": made.id}})
    await record_repository(world, datetime.fromisoformat(moment(timedelta(minutes=1))))
    result = await world.reconcile(users, "alice")
    assert isinstance(result, Terminal)
    assert result.reason == "InvitationDeclined"


async def test_an_invitation_that_went_with_a_lost_repository_is_sent_again_to_the_one_made_in_its_place(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    world.kcp.edit("collaborators", "alice", {"status": {"invitedAt": moment(timedelta(minutes=5))}})
    del host.repositories[site.id]
    made = host.add_repository("octocat", "site")
    world.kcp.edit("repositories", "site", {"status": {"repoID": made.id}})
    await record_repository(world, datetime.fromisoformat(moment(timedelta(minutes=1))))
    assert isinstance(await world.reconcile(users, "alice"), NotReady)
    invitation = host.repositories[made.id].invited["alice"]
    assert world.stored("collaborators", "alice")["status"]["invitationID"] == invitation.id
    assert world.stored("collaborators", "alice")["status"]["invitations"] == 1


async def test_an_invitation_that_the_host_does_not_show_yet_is_waited_for(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    host.decline(site.id, "alice")
    result = await world.reconcile(users, "alice")
    assert isinstance(result, Retryable)
    assert result.reason == "HostNotYetVisible"


async def test_an_invitation_that_is_accepted_between_the_two_lists_is_not_taken_for_declined(
    world: World,
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    world.kcp.edit("collaborators", "alice", {"status": {"invitedAt": moment(timedelta(minutes=5))}})
    list_invitations = host.list_invitations

    async def just_accepted(repo_id: str) -> Listed[Invitation] | None:
        host.accept(site.id, "alice")
        return await list_invitations(repo_id)

    monkeypatch.setattr(host, "list_invitations", just_accepted)
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert done(host) == ["set_collaborator"]


async def test_a_user_who_lost_the_grant_just_before_a_change_of_role_is_invited(
    world: World,
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host.repositories[site.id].granted["alice"] = "pull"
    world.add(collaborator_object(permission="push"))
    set_collaborator = host.set_collaborator

    async def lost(repo_id: str, username: str, role: str) -> Invitation | None:
        host.repositories[site.id].granted.clear()
        return await set_collaborator(repo_id, username, role)

    monkeypatch.setattr(host, "set_collaborator", lost)
    assert isinstance(await world.reconcile(users, "alice"), NotReady)
    status = world.stored("collaborators", "alice")["status"]
    assert status["invitationID"] == host.repositories[site.id].invited["alice"].id
    assert status["origin"] == "Created"


async def test_access_ends_by_itself(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    host.invites = False
    until = (datetime.now(UTC) + timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    world.add(collaborator_object(expiresAt=until))
    result = await world.reconcile(users, "alice")
    assert isinstance(result, Ready)
    assert result.requeue_after is not None
    assert timedelta(minutes=29) < result.requeue_after <= timedelta(minutes=30)
    assert not is_due(world, users)

    world.kcp.edit("collaborators", "alice", {"spec": {"expiresAt": moment(timedelta(seconds=1))}})
    assert is_due(world, users)
    await world.reconcile(users, "alice")
    assert not is_due(world, users)
    assert host.repositories[site.id].granted == {}
    assert conditions(world.stored("collaborators", "alice")) == {
        "Ready": ("True", "Reconciled"),
        "AccessEnded": ("True", "Expired"),
    }
    host.writes.clear()
    await world.reconcile(users, "alice")
    assert host.writes == []

    world.kcp.edit("collaborators", "alice", {"spec": {"expiresAt": until}})
    await world.reconcile(users, "alice")
    assert host.repositories[site.id].granted == {"alice": "push"}
    assert conditions(world.stored("collaborators", "alice")) == {"Ready": ("True", "Reconciled")}


@pytest.mark.parametrize("edited", [False, True])
async def test_access_that_the_list_leaves_out_when_it_ends_is_taken_away(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository, edited: bool
) -> None:
    host.invites = False
    world.add(collaborator_object(expiresAt=moment(timedelta(hours=-1))))
    await world.reconcile(users, "alice")
    if edited:
        world.kcp.edit("collaborators", "alice", {"spec": {"expiresAt": moment(timedelta(seconds=1))}})
    else:
        world.now = lambda: datetime.now(UTC) + timedelta(hours=2)
    host.unlisted.add("alice")
    await world.reconcile(users, "alice")
    assert host.repositories[site.id].granted == {}
    assert conditions(world.stored("collaborators", "alice"))["AccessEnded"] == ("True", "Expired")


async def test_access_is_not_said_to_have_ended_while_the_host_shows_it(
    world: World, users: Controller[Collaborator], host: StubBackend, team_site: HostRepository
) -> None:
    host.members["acme"] = host.org_owners["acme"] = {"alice"}
    host.unlisted.add("alice")
    world.add(collaborator_object(expiresAt=moment(timedelta(hours=-1))))
    await world.reconcile(users, "alice")
    world.now = lambda: datetime.now(UTC) + timedelta(hours=2)
    calls = count_calls(host, "remove_collaborator")
    again: list[timedelta | None] = []
    for minutes in (0, 1, 5):
        world.now = partial(later, timedelta(hours=2, minutes=minutes))
        result = await world.reconcile(users, "alice")
        assert isinstance(result, Ready)
        again.append(result.requeue_after)
        assert conditions(world.stored("collaborators", "alice"))["AccessEnded"] == ("False", "StillShown")
        assert "admin" in message(world.stored("collaborators", "alice"), "AccessEnded")
    assert again == [timedelta(minutes=1), timedelta(minutes=1), None]
    assert len(calls) == 1, "it is tried once for each spec"
    assert not users.is_due(world.start(users, "alice").object, world.now()), "the resync looks again, at its own pace"

    host.org_owners.clear()
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert conditions(world.stored("collaborators", "alice"))["AccessEnded"] == ("True", "Expired")


async def test_an_open_invitation_is_withdrawn_when_access_ends(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
    world.add(collaborator_object(expiresAt=soon))
    pending = await world.reconcile(users, "alice")
    assert isinstance(pending, NotReady)
    assert pending.requeue_after is not None
    assert pending.requeue_after <= timedelta(minutes=30), "it may be accepted without anybody telling"
    world.kcp.edit("collaborators", "alice", {"spec": {"expiresAt": "2026-01-01T01:30:00+01:30"}})
    await world.reconcile(users, "alice")
    assert host.repositories[site.id].invited == {}
    assert conditions(world.stored("collaborators", "alice")) == {
        "Ready": ("True", "Reconciled"),
        "AccessEnded": ("True", "Expired"),
    }
    (ready,) = (c for c in world.stored("collaborators", "alice")["status"]["conditions"] if c["type"] == "Ready")
    assert ready["message"] == "the access ended at 2026-01-01T00:00:00Z"


async def test_an_object_that_is_too_late_from_the_start_takes_nothing_away_that_others_gave(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    granted = host.repositories[site.id].granted
    world.add(collaborator_object(expiresAt=moment(timedelta(days=1)), deletionPolicy="Orphan"))
    await world.reconcile(users, "alice")
    granted["alice"] = "admin"
    for _ in range(2):
        assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert granted == {"alice": "admin"}
    assert "origin" not in world.stored("collaborators", "alice")["status"]
    assert conditions(world.stored("collaborators", "alice"))["AccessEnded"] == ("True", "Expired")


async def test_access_that_was_found_and_kept_ends_too(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    granted = host.repositories[site.id].granted
    granted["alice"] = "push"
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    world.kcp.edit("collaborators", "alice", {"spec": {"expiresAt": moment(timedelta(seconds=1))}})
    await world.reconcile(users, "alice")
    assert granted == {}


async def test_access_given_by_hand_before_is_adopted(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    host.repositories[site.id].granted["alice"] = "push"
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    assert world.stored("collaborators", "alice")["status"]["origin"] == "Adopted"
    assert host.writes == []


async def test_access_through_a_team_is_not_reported_as_ours(
    world: World, users: Controller[Collaborator], host: StubBackend, team_site: HostRepository
) -> None:
    """The host shows the widest role that a user has, so one set narrower is answered and changes nothing."""

    async def shows_admin(repo_id: str, username: str, role: str) -> None:
        host.writes.append(("set_collaborator", (repo_id, username, role)))

    host.repositories[team_site.id].granted["alice"] = "admin"
    host.set_collaborator = shows_admin  # type: ignore[method-assign]
    world.add(collaborator_object(permission="pull"))
    for _ in range(2):
        assert isinstance(await world.reconcile(users, "alice"), Ready)
        assert conditions(world.stored("collaborators", "alice"))["WiderAccess"] == ("True", "NotOurs")
        assert "admin" in message(world.stored("collaborators", "alice"), "WiderAccess")
    assert done(host) == ["set_collaborator"], "it is tried once for each spec"


def shows(host: StubBackend, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """The list shows this role of the user, whatever is given."""
    list_collaborators = host.list_collaborators

    async def listed(repo_id: str) -> Listed[Grant] | None:
        found = await list_collaborators(repo_id)
        assert found is not None
        return replace(found, items=tuple(replace(grant, role=role) for grant in found.items))

    monkeypatch.setattr(host, "list_collaborators", listed)


async def test_a_narrower_role_right_after_a_change_is_a_list_that_lags_behind_and_later_drift(
    world: World,
    users: Controller[Collaborator],
    host: StubBackend,
    team_site: HostRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    granted = host.repositories[team_site.id].granted
    granted["alice"] = "pull"
    world.add(collaborator_object(permission="maintain"))
    with monkeypatch.context() as lagging:
        shows(host, lagging, "pull")
        for _ in range(2):
            result = await world.reconcile(users, "alice")
            assert isinstance(result, Retryable)
            assert result.reason == "HostNotYetVisible"
            assert "WiderAccess" not in conditions(world.stored("collaborators", "alice"))
        told = world.stored("collaborators", "alice")["status"]["conditions"]
        long_ago = [condition | {"lastTransitionTime": "2026-01-01T00:00:00Z"} for condition in told]
        world.kcp.edit("collaborators", "alice", {"status": {"conditions": long_ago}})
        given_up = await world.reconcile(users, "alice")
        assert isinstance(given_up, Terminal)
        assert given_up.reason == "PermissionUnsupported"
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert conditions(world.stored("collaborators", "alice")) == {"Ready": ("True", "Reconciled")}

    granted["alice"] = "pull"
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert granted == {"alice": "maintain"}


async def test_a_narrower_role_that_was_once_reported_as_wider_is_repaired(
    world: World, users: Controller[Collaborator], host: StubBackend, team_site: HostRepository
) -> None:
    granted = host.repositories[team_site.id].granted
    granted["alice"] = "pull"
    reported = condition("WiderAccess", "True", "NotOurs", "the user has pull through a team")
    world.add(collaborator_object(permission="maintain", status={"origin": "Created", "conditions": [reported]}))
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert granted == {"alice": "maintain"}
    assert conditions(world.stored("collaborators", "alice")) == {"Ready": ("True", "Reconciled")}


@pytest.mark.parametrize(("wanted", "shown"), [("pull", "triage"), ("maintain", "admin"), ("push", "x"), ("x", "pull")])
async def test_a_wider_role_and_one_that_cannot_be_ranked_is_reported_and_set_once(
    world: World,
    users: Controller[Collaborator],
    host: StubBackend,
    team_site: HostRepository,
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    shown: str,
) -> None:
    host.custom_roles.add("x")
    host.repositories[team_site.id].granted["alice"] = shown
    world.add(collaborator_object(permission=wanted))
    shows(host, monkeypatch, shown)
    for _ in range(2):
        assert isinstance(await world.reconcile(users, "alice"), Ready)
        assert conditions(world.stored("collaborators", "alice"))["WiderAccess"] == ("True", "NotOurs")
    assert done(host) == ["set_collaborator"]


async def test_a_grant_whose_answer_was_lost_is_ours(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    host.invites = False
    world.add(collaborator_object())

    def die() -> None:
        raise Killed

    world.kcp.once(lambda r: r.subresource == "status", die)
    with pytest.raises(Killed):
        await world.reconcile(users, "alice")
    await world.reconcile(users, "alice")
    assert world.stored("collaborators", "alice")["status"]["origin"] == "Created"
    assert done(host) == ["set_collaborator"]


@pytest.mark.parametrize("reason", ["UserNotFound", "InvitationRefused", "PermissionUnsupported", "MissingPermission"])
async def test_a_refusal_stalls_with_its_reason_and_withdraws_the_claim(
    world: World, users: Controller[Collaborator], host: StubBackend, reason: str
) -> None:
    world.add(collaborator_object())
    host.raise_next("set_collaborator", Terminal(reason, "no"))
    await world.reconcile(users, "alice")
    assert conditions(world.stored("collaborators", "alice"))["Stalled"] == ("True", reason)
    assert await world.claim_of("collaborators", "alice") is None


async def test_a_refusal_after_an_attempt_whose_answer_was_lost_withdraws_the_claim_too(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    """A grant has no time, so what somebody gives by hand after it would count as ours."""
    world.add(collaborator_object())
    host.raise_next("set_collaborator", HostUnavailable("502"), Terminal("MissingPermission", "403"))
    await world.reconcile(users, "alice")
    assert await world.claim_of("collaborators", "alice") is not None
    await world.reconcile(users, "alice")
    assert await world.claim_of("collaborators", "alice") is None
    host.repositories[site.id].granted["alice"] = "push"
    await world.reconcile(users, "alice")
    assert world.stored("collaborators", "alice")["status"]["origin"] == "Adopted"


async def test_while_its_turn_has_not_come_nothing_is_claimed(
    world: World, users: Controller[Collaborator], host: StubBackend
) -> None:
    world.add(collaborator_object())
    host.raise_next("await_turn", Retryable("RateLimited", "until 12:00"))
    await world.reconcile(users, "alice")
    assert host.writes == []
    assert [write.subresource for write in world.kcp.writes("collaborators")] == ["status"]
    assert conditions(world.stored("collaborators", "alice"))["Reconciling"] == ("True", "RateLimited")


async def test_the_daily_number_of_invitations_of_a_repository_is_waited_for(
    world: World, users: Controller[Collaborator], host: StubBackend
) -> None:
    world.add(collaborator_object())
    host.raise_next("set_collaborator", Retryable("InvitationLimit", "50 a day"))
    await world.reconcile(users, "alice")
    assert conditions(world.stored("collaborators", "alice"))["Reconciling"] == ("True", "InvitationLimit")


async def test_two_objects_for_one_user_the_older_has_it(
    world: World, users: Controller[Collaborator], host: StubBackend
) -> None:
    elder: dict[str, Any] = {"creationTimestamp": "2025-01-01T00:00:00Z"}
    world.add(collaborator_object("elder", metadata=elder, username="Alice"), collaborator_object())
    result = await world.reconcile(users, "alice")
    assert isinstance(result, Terminal)
    assert result.reason == "DuplicateCollaborator"
    assert host.writes == []


async def test_an_interruption_does_not_erase_what_another_replica_has_recorded_meanwhile(
    world: World, users: Controller[Collaborator], host: StubBackend
) -> None:
    world.add(collaborator_object())
    recorded = {"status": {"origin": "Adopted", "baselineGeneration": 1, "host": "git.example"}}
    list_collaborators = host.list_collaborators

    async def recorded_meanwhile(repo_id: str) -> Listed[Grant] | None:
        world.kcp.edit("collaborators", "alice", recorded)
        raise HostUnavailable("502")

    host.list_collaborators = recorded_meanwhile  # type: ignore[method-assign]
    await world.reconcile(users, "alice")
    host.list_collaborators = list_collaborators  # type: ignore[method-assign]
    status = world.stored("collaborators", "alice")["status"]
    assert (status["origin"], status["baselineGeneration"]) == ("Adopted", 1)


@pytest.mark.parametrize("accepted", [True, False], ids=["a grant", "an invitation"])
async def test_no_role_is_changed_on_a_copy_that_was_overtaken(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository, accepted: bool
) -> None:
    world.add(collaborator_object(permission="pull"))
    await world.reconcile(users, "alice")
    if accepted:
        host.accept(site.id, "alice")
        await world.reconcile(users, "alice")
    copy = world.kcp.edit("collaborators", "alice", {"spec": {"permission": "admin"}})
    world.kcp.edit("collaborators", "alice", {"spec": {"permission": "pull"}})
    host.writes.clear()
    await world.reconcile(users, "alice", world.start(users, "alice", copy=copy))
    assert host.writes == []
    assert world.stored("collaborators", "alice")["status"]["observedGeneration"] == 3
