"""Messages of conditions are for people: no decision depends on their words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from codecommon.api.access import Collaborator
from codecommon.api.results import Ready, Retryable, Terminal
from codecommon.api.times import rfc3339
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostRepository
from codecommon.testing.builders import collaborator_object, made_repository
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import World, conditions

WORDS = ["", "the user has pull through a team"]


def reword(world: World, text: str, **changed: Any) -> None:
    told = [c | {"message": text} | changed for c in world.stored("collaborators", "alice")["status"]["conditions"]]
    world.kcp.edit("collaborators", "alice", {"status": {"conditions": told}})


def long_ago(world: World, **ago: float) -> None:
    """The invitation was sent that long ago."""
    sent = rfc3339(datetime.now(UTC) - timedelta(**ago))
    world.kcp.edit("collaborators", "alice", {"status": {"invitedAt": sent}})


@pytest.fixture
async def wider(
    world: World, users: Controller[Collaborator], host: StubBackend, monkeypatch: pytest.MonkeyPatch
) -> World:
    """Alice has admin through a team, and pull in spec, which was set once."""
    site = host.add_repository("acme", "site")
    raw = made_repository(repo_id=site.id)
    raw["status"]["owner"] = "acme"
    host.repositories[site.id].granted["alice"] = "admin"

    async def changes_nothing(repo_id: str, username: str, role: str) -> None:
        host.writes.append(("set_collaborator", (repo_id, username, role)))

    monkeypatch.setattr(host, "set_collaborator", changes_nothing)
    world.add(raw, collaborator_object(permission="pull"))
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert conditions(world.stored("collaborators", "alice"))["WiderAccess"] == ("True", "NotOurs")
    assert world.stored("collaborators", "alice")["status"]["widerRole"] == "admin"
    host.writes.clear()
    return world


@pytest.mark.parametrize("text", WORDS)
async def test_a_wider_role_is_set_once_for_each_spec(
    wider: World, users: Controller[Collaborator], host: StubBackend, text: str
) -> None:
    reword(wider, text)
    assert isinstance(await wider.reconcile(users, "alice"), Ready)
    assert host.writes == []
    assert conditions(wider.stored("collaborators", "alice"))["WiderAccess"] == ("True", "NotOurs")

    wider.kcp.edit("collaborators", "alice", {"spec": {"permission": "push"}})
    reword(wider, text)
    await wider.reconcile(users, "alice")
    assert len(host.writes) == 1


async def test_a_wider_role_that_was_stored_before_status_had_a_field_for_it_is_not_set_again(
    wider: World, users: Controller[Collaborator], host: StubBackend
) -> None:
    wider.kcp.edit("collaborators", "alice", {"status": {"widerRole": None}})
    assert isinstance(await wider.reconcile(users, "alice"), Ready)
    assert host.writes == []
    assert wider.stored("collaborators", "alice")["status"]["widerRole"] == "admin"


async def test_a_wider_role_is_no_longer_on_record_once_it_is_gone(
    wider: World, users: Controller[Collaborator], host: StubBackend
) -> None:
    for repository in host.repositories.values():
        repository.granted["alice"] = "pull"
    assert isinstance(await wider.reconcile(users, "alice"), Ready)
    assert "widerRole" not in wider.stored("collaborators", "alice")["status"]
    assert conditions(wider.stored("collaborators", "alice")) == {"Ready": ("True", "Reconciled")}


@pytest.mark.parametrize("text", WORDS)
async def test_an_invitation_that_was_declined_stays_declined(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository, text: str
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    host.decline(site.id, "alice")
    for days in (1, 8):
        long_ago(world, days=days)
        result = await world.reconcile(users, "alice")
        assert isinstance(result, Terminal)
        assert result.reason == "InvitationDeclined"
        reword(world, text)


@pytest.mark.parametrize("text", WORDS)
async def test_a_role_that_stays_narrower_for_long_is_given_up(
    world: World,
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
) -> None:
    async def changes_nothing(repo_id: str, username: str, role: str) -> None:
        return None

    monkeypatch.setattr(host, "set_collaborator", changes_nothing)
    host.repositories[site.id].granted["alice"] = "pull"
    world.add(collaborator_object(permission="push"))
    assert isinstance(await world.reconcile(users, "alice"), Retryable)
    reword(world, text, lastTransitionTime="2026-01-01T00:00:00Z")
    given_up = await world.reconcile(users, "alice")
    assert isinstance(given_up, Terminal)
    assert given_up.reason == "PermissionUnsupported"
