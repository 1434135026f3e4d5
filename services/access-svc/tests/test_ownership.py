"""Two workspaces that share a repository: who registered a key or gave access, and what a deletion leaves alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from access_svc.deploykey import material
from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.results import NotReady, Ready, Released, Terminal
from codecommon.controller.owner_record import OwnerRecord
from codecommon.controller.ownership_rebuild import REBUILT
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostRepository, HostUnavailable
from codecommon.testing.builders import (
    api_binding,
    collaborator_object,
    deploy_key_object,
    made_repository,
    secret_object,
    validated_connection,
)
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import World
from codecommon.testing.repositories import ago, record_repository

GIVEN: Final = material.generate().public
OTHER: Final = material.generate().public
ANNOTATIONS: Final = {"code.kedge.faros.sh/create-claim": ago(5), "code.kedge.faros.sh/claimed-key": GIVEN}


@pytest.fixture
def a(world: World) -> World:
    """One workspace."""
    return world


@pytest.fixture
def b(a: World, site: HostRepository) -> World:
    """Another workspace with the same credential, and an object for the same repository."""
    other = World(cluster="c2", beside=a)
    other.add(api_binding(), secret_object(), validated_connection(), made_repository(repo_id=site.id))
    return other


def origin(world: World, resource: str, name: str) -> Any:
    return world.stored(resource, name).get("status", {}).get("origin")


async def delete(world: World, controller: Controller[Any], name: str, **spec: Any) -> Any:
    resource = controller.kind.resource
    world.kcp.edit(resource, name, {"spec": spec}, world.cluster)
    world.kcp.remove(resource, name, world.cluster)
    return await world.reconcile(controller, name)


def records(world: World, controller: Controller[Any]) -> list[str]:
    return [key for key in world.owners.stored if key.startswith(controller.kind.resource)]


# ---- deploy keys


async def both_claim_the_key(a: World, b: World, keys: Controller[DeployKey], public: str) -> None:
    b.add(deploy_key_object(publicKey=public))
    b.host.raise_next("create_deploy_key", HostUnavailable("502"))
    await b.reconcile(keys, "key")
    a.add(deploy_key_object(publicKey=public))
    assert isinstance(await a.reconcile(keys, "key"), Ready)
    assert isinstance(await b.reconcile(keys, "key"), Ready)


async def test_the_claim_of_one_workspace_does_not_make_the_key_of_another_its_own(
    a: World, b: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    await both_claim_the_key(a, b, keys, GIVEN)
    assert (origin(a, "deploykeys", "key"), origin(b, "deploykeys", "key")) == ("Created", "Adopted")

    assert isinstance(await delete(b, keys, "key"), Released)
    assert len(host.repositories[site.id].keys) == 1
    assert isinstance(await delete(a, keys, "key"), Released)
    assert host.repositories[site.id].keys == {}
    assert records(a, keys) == []


@pytest.mark.parametrize("claimed", [True, False])
async def test_a_key_that_another_object_of_the_workspace_may_have_registered_stays(
    a: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository, claimed: bool
) -> None:
    a.add(deploy_key_object(publicKey=GIVEN))
    await a.reconcile(keys, "key")
    a.add(deploy_key_object("other", metadata={"finalizers": [keys.kind.finalizer]}, publicKey=GIVEN))
    if claimed:
        await a.claim("deploykeys", "other", a.now(), GIVEN)
    assert isinstance(await delete(a, keys, "key"), Released)
    assert len(host.repositories[site.id].keys) == claimed


async def test_an_annotation_that_a_tenant_writes_makes_no_key_ours(
    b: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    host.add_key(site.id, "key", GIVEN)
    b.add(deploy_key_object(metadata={"annotations": ANNOTATIONS}, publicKey=GIVEN))
    await b.reconcile(keys, "key")
    assert origin(b, "deploykeys", "key") == "Adopted"
    await delete(b, keys, "key")
    assert len(host.repositories[site.id].keys) == 1


async def test_a_forged_status_removes_no_key_of_another(
    a: World, b: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    a.add(deploy_key_object(publicKey=GIVEN))
    await a.reconcile(keys, "key")
    status = a.stored("deploykeys", "key")["status"]
    forged = {**status, "keyID": "999", "previousKeyID": status["keyID"]}
    b.add(deploy_key_object(metadata={"finalizers": [keys.kind.finalizer]}, publicKey=OTHER, status=forged))

    await b.reconcile(keys, "key")
    assert status["keyID"] in host.repositories[site.id].keys, "nor as a key that was replaced"
    b.kcp.edit("deploykeys", "key", {"status": status}, "c2")
    assert isinstance(await delete(b, keys, "key"), Released)
    assert list(host.repositories[site.id].keys) == [status["keyID"]]


async def test_who_has_the_private_half_of_another_s_key_does_not_own_it(
    a: World, b: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    a.add(deploy_key_object())
    await a.reconcile(keys, "key")
    raw = b.add(deploy_key_object())
    copied = a.stored("secrets", "deploykey-key", "default")
    copied["metadata"] = {
        "name": "deploykey-key",
        "namespace": "default",
        "ownerReferences": [{"uid": raw["metadata"]["uid"]}],
    }
    b.kcp.add(copied, "c2")

    assert isinstance(await b.reconcile(keys, "key"), Ready)
    assert origin(b, "deploykeys", "key") == "Adopted"
    await delete(b, keys, "key")
    assert len(host.repositories[site.id].keys) == 1


async def test_the_key_of_another_is_not_registered_anew_for_its_title(
    a: World, b: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    a.add(deploy_key_object(publicKey=GIVEN, title="ours"))
    await a.reconcile(keys, "key")
    before = dict(host.repositories[site.id].keys)
    b.add(deploy_key_object(publicKey=GIVEN, title="theirs"))

    assert isinstance(await b.reconcile(keys, "key"), Ready)

    assert host.repositories[site.id].keys == before
    said = {c["type"]: c["message"] for c in b.stored("deploykeys", "key")["status"]["conditions"]}
    assert said["SettingsDiffer"].endswith(": title")


async def test_the_key_of_another_is_not_registered_anew_either_after_nats_lost_its_data(
    a: World, b: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    a.add(deploy_key_object(publicKey=GIVEN, title="ours"))
    await a.reconcile(keys, "key")
    before = dict(host.repositories[site.id].keys)
    a.owners.lose()
    b.add(deploy_key_object(publicKey=GIVEN, title="theirs", readOnly=False))

    assert isinstance(await b.reconcile(keys, "key"), Ready)

    assert host.repositories[site.id].keys == before
    assert isinstance(await a.reconcile(keys, "key"), Ready)
    assert (origin(a, "deploykeys", "key"), origin(b, "deploykeys", "key")) == ("Created", "Adopted")


async def test_where_two_claim_one_key_after_the_loss_neither_removes_it(
    a: World, b: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    a.add(deploy_key_object(publicKey=GIVEN))
    await a.reconcile(keys, "key")
    forged = a.stored("deploykeys", "key")["status"]
    b.add(deploy_key_object(metadata={"finalizers": [keys.kind.finalizer]}, publicKey=GIVEN, status=forged))
    a.owners.lose()
    for world in (b, a):
        result = await delete(world, keys, "key")
        assert isinstance(result, Terminal)
        assert result.reason == "OwnershipDisputed"
    assert len(host.repositories[site.id].keys) == 1
    b.kcp.edit("deploykeys", "key", {"spec": {"deletionPolicy": "Delete"}}, "c2")
    assert isinstance(await b.reconcile(keys, "key"), Released)
    assert host.repositories[site.id].keys == {}


async def test_a_key_that_was_registered_before_a_crash_is_ours_and_goes_with_the_object(
    a: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    a.add(deploy_key_object(publicKey=GIVEN))
    a.owners.before = lambda method, key: _die() if method == "create" else None
    with pytest.raises(_Killed):
        await a.reconcile(keys, "key")
    a.owners.before = lambda method, key: None
    assert isinstance(await delete(a, keys, "key"), Released)
    assert host.repositories[site.id].keys == {}


# ---- access


async def both_invite(a: World, b: World, users: Controller[Collaborator]) -> None:
    b.add(collaborator_object())
    b.host.raise_next("set_collaborator", HostUnavailable("502"))
    await b.reconcile(users, "alice")
    a.add(collaborator_object())
    assert isinstance(await a.reconcile(users, "alice"), NotReady)
    assert isinstance(await b.reconcile(users, "alice"), NotReady)


@pytest.mark.parametrize("accepted", [False, True])
async def test_the_claim_of_one_workspace_does_not_make_the_grant_of_another_its_own(
    a: World, b: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository, accepted: bool
) -> None:
    await both_invite(a, b, users)
    assert (origin(a, "collaborators", "alice"), origin(b, "collaborators", "alice")) == ("Created", "Adopted")
    if accepted:
        host.accept(site.id, "alice")
        for world in (a, b):
            await world.reconcile(users, "alice")
    there = host.repositories[site.id]

    assert isinstance(await delete(b, users, "alice"), Released)
    assert "alice" in (there.granted if accepted else there.invited)
    assert isinstance(await delete(a, users, "alice"), Released)
    assert (dict(there.granted), dict(there.invited)) == ({}, {})
    assert records(a, users) == []


async def test_an_annotation_that_a_tenant_writes_makes_no_grant_ours(
    b: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    host.repositories[site.id].granted["alice"] = "push"
    b.add(collaborator_object(metadata={"annotations": ANNOTATIONS}))
    await b.reconcile(users, "alice")
    assert origin(b, "collaborators", "alice") == "Adopted"
    await delete(b, users, "alice")
    assert host.repositories[site.id].granted == {"alice": "push"}


@pytest.mark.parametrize("looked_at", [False, True])
async def test_a_forged_status_takes_no_access_away_that_another_gave(
    a: World, b: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository, looked_at: bool
) -> None:
    a.add(collaborator_object())
    await a.reconcile(users, "alice")
    forged = a.stored("collaborators", "alice")["status"]
    b.add(collaborator_object(metadata={"finalizers": [users.kind.finalizer]}, status=forged))
    if looked_at:
        await b.reconcile(users, "alice")
        assert origin(b, "collaborators", "alice") == "Adopted"
    assert isinstance(await delete(b, users, "alice"), Released)
    assert "alice" in host.repositories[site.id].invited


async def test_where_two_claim_one_grant_after_the_loss_neither_takes_it_away(
    a: World, b: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    a.add(collaborator_object())
    await a.reconcile(users, "alice")
    forged = a.stored("collaborators", "alice")["status"]
    b.add(collaborator_object(metadata={"finalizers": [users.kind.finalizer]}, status=forged))
    a.owners.lose()
    for world in (b, a):
        result = await delete(world, users, "alice")
        assert isinstance(result, Terminal)
        assert result.reason == "OwnershipDisputed"
    assert "alice" in host.repositories[site.id].invited


async def test_access_that_was_lost_and_is_given_by_another_is_the_other_s(
    a: World, b: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    """A grant has no id. Who gives it anew after somebody took it away is its maker."""
    a.add(collaborator_object())
    await a.reconcile(users, "alice")
    host.repositories[site.id].invited.clear()
    for record in [key for key in a.owners.stored if key.startswith("collaborators.")]:
        _make_older(a, record)
    b.add(collaborator_object())
    await b.reconcile(users, "alice")
    assert origin(b, "collaborators", "alice") == "Created"
    assert isinstance(await delete(a, users, "alice"), Released)
    assert "alice" in host.repositories[site.id].invited
    assert isinstance(await delete(b, users, "alice"), Released)
    assert host.repositories[site.id].invited == {}


async def give_long_ago(a: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository) -> None:
    a.add(collaborator_object())
    await a.reconcile(users, "alice")
    host.accept(site.id, "alice")
    await a.reconcile(users, "alice")
    for record in records(a, users):
        _make_older(a, record)


@pytest.mark.parametrize("permission", ["push", "admin"])
async def test_a_list_that_leaves_a_user_out_does_not_hand_their_access_to_another_object(
    a: World, b: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository, permission: str
) -> None:
    await give_long_ago(a, users, host, site)
    host.unlisted.add("alice")
    b.add(collaborator_object(permission=permission))
    assert isinstance(await b.reconcile(users, "alice"), Ready)
    host.unlisted.clear()
    await a.reconcile(users, "alice")
    assert (origin(a, "collaborators", "alice"), origin(b, "collaborators", "alice")) == ("Created", "Adopted")

    assert isinstance(await delete(b, users, "alice"), Released)
    assert "alice" in host.repositories[site.id].granted
    assert isinstance(await delete(a, users, "alice"), Released)
    assert host.repositories[site.id].granted == {}


async def test_a_grant_that_was_lost_and_is_given_by_another_is_the_other_s(
    a: World, b: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    """As an invitation that was lost, where the host gives access at once."""
    await give_long_ago(a, users, host, site)
    host.repositories[site.id].granted.clear()
    host.invites = False
    b.add(collaborator_object())
    assert isinstance(await b.reconcile(users, "alice"), Ready)
    assert origin(b, "collaborators", "alice") == "Created"
    assert isinstance(await delete(b, users, "alice"), Released)
    assert host.repositories[site.id].granted == {}


@pytest.mark.parametrize("kind", ["key", "access"])
async def test_who_decides_otherwise_while_the_records_are_rebuilt_is_heard(
    a: World,
    keys: Controller[DeployKey],
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    kind: str,
) -> None:
    controller: Controller[Any] = keys if kind == "key" else users
    a.add(deploy_key_object(publicKey=GIVEN) if kind == "key" else collaborator_object())
    name = "key" if kind == "key" else "alice"
    await a.reconcile(controller, name)
    a.owners.lose()

    def orphan(method: str, key: str) -> None:
        if key == REBUILT and method == "create":
            a.kcp.edit(controller.kind.resource, name, {"spec": {"deletionPolicy": "Orphan"}})

    a.owners.before = orphan
    assert isinstance(await delete(a, controller, name), Released)
    assert len(host.repositories[site.id].keys) + len(host.repositories[site.id].invited) == 1


async def test_what_is_in_a_repository_that_will_not_be_deleted_does_not_go_by_itself(
    a: World, b: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    """The Repository of B says Created, and a record says that the one of A made it."""
    await record_repository(a, a.now())
    b.add(deploy_key_object(publicKey=GIVEN))
    await b.reconcile(keys, "key")
    b.kcp.remove("repositories", "site", "c2")
    assert isinstance(await delete(b, keys, "key"), Released)
    assert host.repositories[site.id].keys == {}


async def test_what_is_in_a_disputed_repository_goes_with_its_object_after_nats_lost_its_data(
    a: World, b: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    """The Repositories of A and B both say Created. So neither is deleted on the host, and nor is what is in it."""
    a.add(deploy_key_object(publicKey=GIVEN))
    await a.reconcile(keys, "key")
    a.owners.lose()
    a.kcp.remove("repositories", "site")
    assert isinstance(await delete(a, keys, "key"), Released)
    assert host.repositories[site.id].keys == {}


def _make_older(world: World, key: str) -> None:
    stored = world.owners.stored[key]
    record = OwnerRecord.decode(stored.value)
    older = replace(record, at=record.at - timedelta(minutes=11))
    world.owners.stored[key] = replace(stored, value=older.encode())


class _Killed(BaseException):
    """The process ends here."""


def _die() -> None:
    raise _Killed
