"""Collaborator: the user takes another login on the host, and somebody else the old one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from codecommon.api.access import Collaborator
from codecommon.api.annotations import RECONCILE_REQUESTED_AT
from codecommon.api.kinds import COLLABORATORS
from codecommon.api.results import NotReady, Ready, Released, Retryable, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostRepository, HostUnavailable
from codecommon.testing.builders import collaborator_object, condition
from codecommon.testing.git_host import StubBackend, StubRepository
from codecommon.testing.harness import World, conditions, message

PAST = "2026-01-01T00:00:00Z"


@pytest.fixture
def shared(host: StubBackend, site: HostRepository) -> StubRepository:
    return host.repositories[site.id]


@pytest.fixture
async def granted(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> StubRepository:
    """``site``, to which alice has accepted the invitation of the object ``alice``."""
    world.add(collaborator_object(metadata={"creationTimestamp": PAST}))
    await world.reconcile(users, "alice")
    host.accept(site.id, "alice")
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    host.writes.clear()
    return host.repositories[site.id]


def edit(world: World, **spec: Any) -> None:
    world.kcp.edit("collaborators", "alice", {"spec": spec})


async def delete(world: World, users: Controller[Collaborator], name: str = "alice") -> Any:
    world.kcp.remove("collaborators", name)
    return await world.reconcile(users, name)


# ---- learning the id


async def test_the_id_is_known_from_the_invitation_on(
    world: World, users: Controller[Collaborator], host: StubBackend
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    assert world.stored("collaborators", "alice")["status"]["userID"] == await host.get_user_id("alice")


async def test_the_id_of_who_has_access_at_once_is_known_at_once(
    world: World, users: Controller[Collaborator], host: StubBackend, shared: StubRepository
) -> None:
    host.invites = False
    world.add(collaborator_object())
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert world.stored("collaborators", "alice")["status"]["userID"] == await host.get_user_id("alice")
    world.kcp.requests.clear()
    await world.reconcile(users, "alice")
    assert [request for request in world.kcp.requests if request.writes] == []
    host.rename_user("alice", "alicia")
    assert isinstance(await delete(world, users), Released)
    assert shared.granted == {}


async def test_a_grant_whose_user_could_not_be_looked_up_is_ours_and_the_id_is_learnt_in_the_next_pass(
    world: World, users: Controller[Collaborator], host: StubBackend
) -> None:
    host.invites = False
    host.raise_next("get_user_id", HostUnavailable("502"))
    world.add(collaborator_object())
    assert isinstance(await world.reconcile(users, "alice"), Retryable)
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    status = world.stored("collaborators", "alice")["status"]
    assert (status["origin"], status["userID"]) == ("Created", await host.get_user_id("alice"))


async def test_an_object_without_the_id_learns_it_from_the_list_and_writes_nothing_but_its_status(
    world: World, users: Controller[Collaborator], host: StubBackend, granted: StubRepository
) -> None:
    world.kcp.edit("collaborators", "alice", {"status": {"userID": None}})
    before = len(world.kcp.writes("collaborators"))
    for _ in range(2):
        assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert world.stored("collaborators", "alice")["status"]["userID"] == await host.get_user_id("alice")
    assert [write.subresource for write in world.kcp.writes("collaborators")[before:]] == ["status"]
    assert host.writes == []


async def test_an_object_of_the_provider_before_this_one_learns_it_too(
    world: World, users: Controller[Collaborator], host: StubBackend, shared: StubRepository
) -> None:
    shared.granted["alice"] = "push"
    ready = {"observedGeneration": 1, "conditions": [condition("Ready", "True", "Reconciled")]}
    world.add(collaborator_object(metadata={"finalizers": [COLLABORATORS.finalizer]}, status=ready))
    await world.reconcile(users, "alice")
    host.rename_user("alice", "alicia")
    assert isinstance(await delete(world, users), Released)
    assert shared.granted == {}


# ---- the user is called otherwise by now


async def test_access_under_a_new_login_is_the_users_own(
    world: World, users: Controller[Collaborator], host: StubBackend, granted: StubRepository
) -> None:
    host.rename_user("alice", "alicia")
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert conditions(world.stored("collaborators", "alice")) == {"Ready": ("True", "Reconciled")}
    assert "alicia" in message(world.stored("collaborators", "alice"))
    assert host.writes == []

    host.add_user("alice")
    edit(world, permission="admin")
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert granted.granted == {"alicia": "admin"}
    assert granted.invited == {}


@pytest.mark.parametrize(
    "taken", ["free", "another user's", "another user's who has access", "another user's, invited"]
)
async def test_the_access_of_who_renamed_goes_with_the_object(
    world: World,
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    granted: StubRepository,
    taken: str,
) -> None:
    host.rename_user("alice", "alicia")
    if taken != "free":
        host.add_user("alice")
    if "access" in taken:
        granted.granted["alice"] = "pull"
    if "invited" in taken:
        await host.set_collaborator(site.id, "alice", "pull")
    assert isinstance(await delete(world, users), Released)
    assert granted.granted == ({"alice": "pull"} if "access" in taken else {})
    assert set(granted.invited) == ({"alice"} if "invited" in taken else set())


async def test_what_somebody_else_was_given_under_the_old_login_stays_when_the_user_has_nothing_any_more(
    world: World, users: Controller[Collaborator], host: StubBackend, granted: StubRepository
) -> None:
    host.rename_user("alice", "alicia")
    host.add_user("alice")
    granted.granted = {"alice": "pull"}
    assert isinstance(await delete(world, users), Released)
    assert granted.granted == {"alice": "pull"}


async def test_the_access_of_who_renamed_ends(
    world: World, users: Controller[Collaborator], host: StubBackend, granted: StubRepository
) -> None:
    host.rename_user("alice", "alicia")
    edit(world, expiresAt=PAST)
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert granted.granted == {}
    assert conditions(world.stored("collaborators", "alice"))["AccessEnded"] == ("True", "Expired")


@pytest.mark.parametrize("known", ["userID", "invitationID"])
async def test_an_invited_user_who_renames_is_waited_for_and_the_invitation_goes_with_the_object(
    world: World, users: Controller[Collaborator], host: StubBackend, shared: StubRepository, known: str
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    long_ago = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    forgotten = {"userID": None} if known == "invitationID" else {}
    world.kcp.edit("collaborators", "alice", {"status": {"invitedAt": long_ago, **forgotten}})
    host.rename_user("alice", "alicia")
    edit(world, permission="admin")
    result = await world.reconcile(users, "alice")
    assert isinstance(result, NotReady)
    assert "alicia has not yet accepted" in result.message
    assert shared.invited["alicia"].role == "admin"
    assert isinstance(await delete(world, users), Released)
    assert (shared.invited, shared.granted) == ({}, {})


async def test_an_expired_invitation_of_who_renamed_is_sent_anew_to_the_same_user(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository, shared: StubRepository
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    host.expire(site.id, "alice")
    host.rename_user("alice", "alicia")
    host.add_user("alice")
    assert isinstance(await world.reconcile(users, "alice"), NotReady)
    assert list(shared.invited) == ["alicia"]
    assert not shared.invited["alicia"].expired


# ---- the login is somebody else's


def lost_the_access(host: StubBackend, shared: StubRepository) -> None:
    shared.granted.clear()
    host.rename_user("alice", "alicia")


def was_removed_with_the_account(host: StubBackend, shared: StubRepository) -> None:
    shared.granted.clear()


@pytest.mark.parametrize("how", [lost_the_access, was_removed_with_the_account])
async def test_who_took_the_old_login_is_not_invited(
    world: World,
    users: Controller[Collaborator],
    host: StubBackend,
    granted: StubRepository,
    how: Callable[[StubBackend, StubRepository], None],
) -> None:
    how(host, granted)
    host.add_user("alice")
    for value in ("first", "second"):
        world.kcp.edit("collaborators", "alice", {"metadata": {"annotations": {RECONCILE_REQUESTED_AT: value}}})
        result = await world.reconcile(users, "alice")
        assert isinstance(result, Terminal)
        assert result.reason == "UserChanged"
    assert conditions(world.stored("collaborators", "alice")) == {
        "Ready": ("False", "UserChanged"),
        "Stalled": ("True", "UserChanged"),
    }
    assert "delete this object" in message(world.stored("collaborators", "alice"))
    assert (granted.granted, granted.invited) == ({}, {})
    assert host.writes == []

    world.kcp.remove("collaborators", "alice")
    assert isinstance(await world.reconcile(users, "alice"), Released)
    world.add(collaborator_object())
    assert isinstance(await world.reconcile(users, "alice"), NotReady)
    assert world.stored("collaborators", "alice")["status"]["userID"] == await host.get_user_id("alice")


async def test_an_invitation_that_is_gone_is_not_sent_to_who_took_the_login(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository, shared: StubRepository
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    host.decline(site.id, "alice")
    host.rename_user("alice", "alicia")
    host.add_user("alice")
    edit(world, permission="pull")
    result = await world.reconcile(users, "alice")
    assert isinstance(result, Terminal)
    assert result.reason == "UserChanged"
    assert conditions(world.stored("collaborators", "alice"))["InvitationPending"] == ("False", "NotAccepted")
    assert shared.invited == {}


async def test_nobody_is_asked_who_lost_the_access_and_whose_login_is_gone(
    world: World, users: Controller[Collaborator], host: StubBackend, granted: StubRepository
) -> None:
    lost_the_access(host, granted)
    result = await world.reconcile(users, "alice")
    assert isinstance(result, Terminal)
    assert result.reason == "UserNotFound"
    assert "another username" in result.message
    assert host.writes == []


async def test_the_same_user_gets_a_lost_access_back_after_one_look_at_the_login(
    world: World,
    users: Controller[Collaborator],
    host: StubBackend,
    granted: StubRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[str] = []
    get_user_id = host.get_user_id

    async def counted(login: str) -> str | None:
        looks.append(login)
        return await get_user_id(login)

    monkeypatch.setattr(host, "get_user_id", counted)
    await world.reconcile(users, "alice")
    assert looks == [], "a settled object asks no more than before"
    granted.granted.clear()
    assert isinstance(await world.reconcile(users, "alice"), NotReady)
    assert looks == ["alice"]
    assert list(granted.invited) == ["alice"]


# ---- two objects, one user


async def test_an_object_with_the_new_login_is_a_duplicate_until_the_one_with_the_old_login_is_gone(
    world: World, users: Controller[Collaborator], host: StubBackend, granted: StubRepository
) -> None:
    host.rename_user("alice", "alicia")
    world.add(collaborator_object("alicia", username="alicia"))
    result = await world.reconcile(users, "alicia")
    assert isinstance(result, Terminal)
    assert result.reason == "DuplicateCollaborator"

    assert isinstance(await delete(world, users), Released)
    assert granted.granted == {}
    assert isinstance(await world.reconcile(users, "alicia"), NotReady)
    assert world.stored("collaborators", "alicia")["status"]["origin"] == "Created"


async def test_an_object_with_the_old_login_that_goes_takes_nothing_from_one_that_stays_for_the_same_user(
    world: World, users: Controller[Collaborator], host: StubBackend, granted: StubRepository
) -> None:
    host.rename_user("alice", "alicia")
    world.add(collaborator_object("alicia", metadata={"creationTimestamp": "2025-01-01T00:00:00Z"}, username="alicia"))
    assert isinstance(await world.reconcile(users, "alicia"), Ready)
    assert isinstance(await delete(world, users), Released)
    assert granted.granted == {"alicia": "push"}


async def test_an_object_for_who_took_the_login_does_not_keep_the_access_of_who_had_it(
    world: World, users: Controller[Collaborator], host: StubBackend, granted: StubRepository
) -> None:
    host.rename_user("alice", "alicia")
    host.add_user("alice")
    granted.granted["alice"] = "pull"
    other = {"origin": "Adopted", "userID": await host.get_user_id("alice"), "host": "git.example"}
    world.add(collaborator_object("other", status=other))
    assert isinstance(await delete(world, users), Released)
    assert granted.granted == {"alice": "pull"}
