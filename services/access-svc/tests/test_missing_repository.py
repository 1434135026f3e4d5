"""DeployKey and Collaborator: what is said of a key and of access in a repository that the host does not show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from access_svc.deploykey import material
from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.results import NotReady, Ready, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import Grant, HostKey, HostRepository, Invitation, Listed
from codecommon.testing.builders import collaborator_object, condition, deploy_key_object
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import World, conditions
from codecommon.testing.repositories import record_repository

GIVEN = material.generate().public


@pytest.mark.parametrize("resource", ["deploykeys", "collaborators"])
async def test_what_is_in_a_repository_that_cannot_be_seen_is_not_ready_until_it_is_seen(
    world: World,
    keys: Controller[DeployKey],
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    resource: str,
) -> None:
    host.repositories[site.id].granted["alice"] = "push"
    world.add(deploy_key_object(publicKey=GIVEN), collaborator_object(permission="push"))
    name = {"deploykeys": "key", "collaborators": "alice"}[resource]

    async def reconcile() -> object:
        return await (world.reconcile(keys, name) if resource == "deploykeys" else world.reconcile(users, name))

    assert isinstance(await reconcile(), Ready)
    before = list(host.writes)
    hidden = host.repositories.pop(site.id)

    result = await reconcile()

    assert isinstance(result, NotReady)
    assert result.requeue_after == timedelta(minutes=1), (
        "the Repository is ready still, so no event of it wakes this one"
    )
    assert conditions(world.stored(resource, name))["Ready"] == ("False", "RepositoryNotReady")
    host.repositories[site.id] = hidden
    assert isinstance(await reconcile(), Ready)
    assert host.writes == before


async def test_once_the_repository_is_reported_its_recovery_wakes_what_is_in_it(
    world: World, keys: Controller[DeployKey], host: StubBackend
) -> None:
    told = condition("Ready", "False", "HostObjectMissing")
    world.kcp.edit("repositories", "site", {"status": {"conditions": [told]}})
    world.add(deploy_key_object())
    host.repositories.clear()

    result = await world.reconcile(keys, "key")

    assert isinstance(result, NotReady)
    assert result.requeue_after is None


async def test_a_repository_that_vanishes_between_two_lists_says_nothing_of_an_invitation(
    world: World,
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither that it was declined, nor that another one is to be sent."""
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    before, asked = list(host.writes), list[str]()

    async def once(repo_id: str) -> Listed[Grant] | None:
        asked.append(repo_id)
        return Listed((), datetime.now(UTC)) if len(asked) == 1 else None

    async def none(repo_id: str) -> Listed[Invitation] | None:
        return Listed((), datetime.now(UTC))

    monkeypatch.setattr(host, "list_collaborators", once)
    monkeypatch.setattr(host, "list_invitations", none)

    result = await world.reconcile(users, "alice")

    assert isinstance(result, NotReady)
    assert result.reason == "RepositoryNotReady"
    assert host.writes == before


@pytest.mark.parametrize("made_again", [False, True])
async def test_a_key_in_use_elsewhere_is_not_taken_for_a_list_that_lags(
    world: World,
    keys: Controller[DeployKey],
    host: StubBackend,
    site: HostRepository,
    monkeypatch: pytest.MonkeyPatch,
    made_again: bool,
) -> None:
    """A moment ago it was registered in the repository that was there before: that is where the host has it."""
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    stored = await world.claim_of("deploykeys", "key")
    assert stored is not None
    claim = stored.at
    await record_repository(world, claim + timedelta(seconds=1 if made_again else -1))

    async def empty(repo_id: str) -> Listed[HostKey] | None:
        return Listed((), claim + timedelta(seconds=2))

    async def unknown(repo_id: str, key_id: str) -> None:
        return None

    monkeypatch.setattr(host, "list_deploy_keys", empty)
    monkeypatch.setattr(host, "get_deploy_key", unknown)

    result = await world.reconcile(keys, "key")

    assert isinstance(result, Terminal if made_again else NotReady)
    assert result.reason == "KeyInUse"
