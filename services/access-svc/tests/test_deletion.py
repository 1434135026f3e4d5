"""DeployKey and Collaborator: what a deletion does on the host, and what it takes for the finalizer to leave."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from access_svc.deploykey import material
from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.kinds import COLLABORATORS
from codecommon.api.results import NotReady, Ready, Released, Retryable, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostRepository, HostUnavailable
from codecommon.kcp.client import JsonObject
from codecommon.testing.builders import DELETED, api_binding, collaborator_object, condition, deploy_key_object
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import NAMESPACE, World, message

GIVEN = material.generate().public


class Killed(BaseException):
    """The process dies here."""


def moment() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pair(world: World) -> JsonObject | None:
    return world.kcp.stored("secrets", "deploykey-key", namespace=NAMESPACE)


def gone(world: World, resource: str, name: str) -> bool:
    return world.kcp.stored(resource, name) is None


def a_host_call_fails_the_test(host: StubBackend) -> None:
    for method in ("list_deploy_keys", "delete_deploy_key", "list_collaborators", "list_invitations"):
        host.raise_next(method, AssertionError("the host was called"))


async def delete_key(world: World, keys: Controller[DeployKey]) -> Any:
    world.kcp.remove("deploykeys", "key")
    return await world.reconcile(keys, "key")


async def delete_user(world: World, users: Controller[Collaborator]) -> Any:
    world.kcp.remove("collaborators", "alice")
    return await world.reconcile(users, "alice")


@pytest.fixture
async def made(world: World, keys: Controller[DeployKey]) -> None:
    """A generated key that is in force."""
    world.add(deploy_key_object())
    await world.reconcile(keys, "key")


async def test_a_key_whose_policy_was_lost_is_not_removed(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository, made: None
) -> None:
    """Schemas that do not have the field hide it, and ``Orphan`` would read like no policy."""
    owned = [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:deletionPolicy": {}}}}]
    world.kcp.edit("deploykeys", "key", {"metadata": {"managedFields": owned}})
    blocked = await delete_key(world, keys)
    assert isinstance(blocked, NotReady)
    assert blocked.reason == "DeletionBlocked"
    assert len(host.repositories[site.id].keys) == 1
    world.kcp.edit("deploykeys", "key", {"spec": {"deletionPolicy": "Orphan"}})
    assert isinstance(await world.reconcile(keys, "key"), Released)
    assert len(host.repositories[site.id].keys) == 1


async def test_the_key_and_the_secret_go_with_the_object(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository, made: None
) -> None:
    assert isinstance(await delete_key(world, keys), Released)
    assert host.repositories[site.id].keys == {}
    assert pair(world) is None
    assert gone(world, "deploykeys", "key")


async def test_a_key_that_a_rotation_replaced_goes_too(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(rotateEvery="1h"))
    await world.reconcile(keys, "key")
    world.kcp.edit("deploykeys", "key", {"status": {"rotatedAt": "2026-01-01T00:00:00Z"}})
    await world.reconcile(keys, "key")
    assert len(host.repositories[site.id].keys) == 2
    await delete_key(world, keys)
    assert host.repositories[site.id].keys == {}


async def test_orphan_leaves_the_key_and_the_pair_that_opens_it(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository, made: None
) -> None:
    world.kcp.edit("deploykeys", "key", {"spec": {"deletionPolicy": "Orphan"}})
    a_host_call_fails_the_test(host)
    assert isinstance(await delete_key(world, keys), Released)
    assert len(host.repositories[site.id].keys) == 1
    secret = pair(world)
    assert secret is not None
    assert not secret["metadata"]["ownerReferences"]


async def test_an_adopted_key_stays_unless_delete_is_asked_for(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    host.add_key(site.id, "key", GIVEN)
    for policy, left in ((None, 1), ("Delete", 0)):
        world.add(deploy_key_object(publicKey=GIVEN, deletionPolicy=policy))
        await world.reconcile(keys, "key")
        assert isinstance(await delete_key(world, keys), Released)
        assert len(host.repositories[site.id].keys) == left


async def test_a_key_whose_registration_was_not_recorded_is_found_and_removed(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    def die() -> None:
        raise Killed

    for spec in ({}, {"publicKey": GIVEN}):
        world.add(deploy_key_object(**spec))
        world.kcp.once(lambda r: (r.resource == "secrets" and r.method == "PATCH") or r.subresource == "status", die)
        with pytest.raises(Killed):
            await world.reconcile(keys, "key")
        assert len(host.repositories[site.id].keys) == 1
        await delete_key(world, keys)
        assert host.repositories[site.id].keys == {}
        assert pair(world) is None


async def test_a_key_that_replaced_an_adopted_one_and_was_not_recorded_goes_and_the_adopted_one_stays(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    def die() -> None:
        raise Killed

    found = host.add_key(site.id, "theirs", GIVEN)
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": material.generate().public}})
    world.kcp.once(lambda r: r.subresource == "status", die)
    with pytest.raises(Killed):
        await world.reconcile(keys, "key")
    assert len(host.repositories[site.id].keys) == 2
    await delete_key(world, keys)
    assert list(host.repositories[site.id].keys) == [found.id]


async def test_a_secret_of_that_name_that_is_anothers_is_left_alone(
    world: World, keys: Controller[DeployKey], made: None
) -> None:
    world.kcp.edit(
        "secrets", "deploykey-key", {"metadata": {"ownerReferences": [{"uid": "another"}]}}, namespace=NAMESPACE
    )
    assert isinstance(await delete_key(world, keys), Released)
    assert pair(world) is not None


async def test_the_object_stays_while_the_host_fails(
    world: World, keys: Controller[DeployKey], host: StubBackend, made: None
) -> None:
    host.raise_next("delete_deploy_key", HostUnavailable("502"))
    assert isinstance(await delete_key(world, keys), Retryable)
    assert not gone(world, "deploykeys", "key")
    assert pair(world) is not None
    await world.reconcile(keys, "key")
    assert gone(world, "deploykeys", "key")


async def test_without_the_credential_the_object_stays_and_says_how_to_let_go(
    world: World, keys: Controller[DeployKey], made: None
) -> None:
    world.kcp.remove("secrets", "credential", namespace=NAMESPACE)
    result = await delete_key(world, keys)
    assert isinstance(result, NotReady)
    assert result.reason == "CredentialUnavailable"
    raw = world.kcp.stored("deploykeys", "key")
    assert raw is not None
    assert "deletionPolicy" in message(raw)


async def test_an_object_that_never_came_as_far_as_the_host_goes_without_a_credential(
    world: World, keys: Controller[DeployKey], users: Controller[Collaborator], host: StubBackend
) -> None:
    host.raise_next("create_deploy_key", HostUnavailable("refused"))
    world.kcp.remove("secrets", "credential", namespace=NAMESPACE)
    world.add(deploy_key_object(metadata={"finalizers": ["deploykeys.code.kedge.faros.sh/finalizer"]}))
    await world.reconcile(keys, "key")
    assert isinstance(await delete_key(world, keys), Released)


@pytest.mark.parametrize("policy", [None, "Delete"])
async def test_what_is_in_a_repository_that_the_credential_does_not_see_any_more_does_not_count_as_removed(
    world: World,
    keys: Controller[DeployKey],
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    made: None,
    policy: str | None,
) -> None:
    host.invites = False
    world.add(collaborator_object(deletionPolicy=policy))
    await world.reconcile(users, "alice")
    hidden = host.repositories.pop(site.id)
    for result in (await delete_key(world, keys), await delete_user(world, users)):
        assert isinstance(result, Terminal)
        assert result.reason == "HostObjectMissing"
        assert "deletionPolicy to Orphan" in result.message
        assert "of Repository 'site' to Orphan and delete that" in result.message
    assert pair(world) is not None

    host.repositories[site.id] = hidden
    assert isinstance(await world.reconcile(keys, "key"), Released)
    assert isinstance(await world.reconcile(users, "alice"), Released)
    assert (hidden.keys, hidden.granted) == ({}, {})


@pytest.mark.parametrize("way_out", ["Orphan", "the Repository goes and stays on the host", "the workspace leaves"])
async def test_nothing_waits_for_ever_for_a_repository_that_the_host_does_not_show(
    world: World,
    keys: Controller[DeployKey],
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    way_out: str,
) -> None:
    host.invites = False
    world.add(deploy_key_object(deletionPolicy="Delete"), collaborator_object(deletionPolicy="Delete"))
    await world.reconcile(keys, "key")
    await world.reconcile(users, "alice")
    host.repositories.clear()
    assert isinstance(await delete_key(world, keys), Terminal)
    assert isinstance(await delete_user(world, users), Terminal)
    match way_out:
        case "Orphan":
            for resource, name in (("deploykeys", "key"), ("collaborators", "alice")):
                world.kcp.edit(resource, name, {"spec": {"deletionPolicy": "Orphan"}})
        case "the workspace leaves":
            world.add(api_binding(terminating=True))
        case _:
            world.kcp.edit("repositories", "site", {"spec": {"deletionPolicy": "Orphan"}})
            world.kcp.remove("repositories", "site")
    assert isinstance(await world.reconcile(keys, "key"), Released)
    assert isinstance(await world.reconcile(users, "alice"), Released)


@pytest.mark.parametrize("how", ["gone", "goes with it"])
async def test_a_child_of_a_repository_that_is_gone_or_goes_with_it_is_released_without_a_call(
    world: World,
    keys: Controller[DeployKey],
    users: Controller[Collaborator],
    host: StubBackend,
    made: None,
    how: str,
) -> None:
    host.invites = False
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    if how == "gone":
        world.kcp.edit("repositories", "site", {"metadata": {"finalizers": None}})
    world.kcp.remove("repositories", "site")
    world.kcp.remove("secrets", "credential", namespace=NAMESPACE)
    a_host_call_fails_the_test(host)

    assert isinstance(await delete_key(world, keys), Released)
    assert isinstance(await delete_user(world, users), Released)
    assert pair(world) is None


async def test_a_child_of_a_repository_that_the_host_keeps_is_cleaned_up(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository, made: None
) -> None:
    world.kcp.edit("repositories", "site", {"spec": {"deletionPolicy": "Orphan"}})
    world.kcp.remove("repositories", "site")
    await delete_key(world, keys)
    assert host.repositories[site.id].keys == {}


# ---- leaving


async def test_a_workspace_that_leaves_keeps_everything_on_the_host(
    world: World,
    keys: Controller[DeployKey],
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    made: None,
) -> None:
    host.invites = False
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    world.kcp.edit("apibindings", "code", {"metadata": {"finalizers": ["apis.kcp.io/apibinding-finalizer"]}})
    world.kcp.remove("apibindings", "code")
    assert isinstance(await delete_key(world, keys), Released)
    assert isinstance(await delete_user(world, users), Released)
    assert len(host.repositories[site.id].keys) == 1
    assert host.repositories[site.id].granted == {"alice": "push"}
    assert pair(world) is not None


async def test_a_workspace_that_leaves_removes_what_says_delete_if_it_still_can(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository, made: None
) -> None:
    binding = world.kcp.stored("apibindings", "code")
    assert binding is not None
    binding["metadata"] |= {"deletionTimestamp": DELETED, "finalizers": ["x"]}
    world.kcp.add(binding)
    for credential, left in ((False, 1), (True, 0)):
        world.kcp.add(deploy_key_object("other", publicKey=GIVEN, deletionPolicy="Delete"))
        await world.reconcile(keys, "other")
        kept = world.kcp.stored("secrets", "credential", namespace=NAMESPACE)
        assert kept is not None
        if not credential:
            world.kcp.remove("secrets", "credential", namespace=NAMESPACE)
        world.kcp.remove("deploykeys", "other")
        assert isinstance(await world.reconcile(keys, "other"), Released)
        given = [key for key in host.repositories[site.id].keys.values() if key.key == GIVEN]
        assert len(given) == left
        world.kcp.add(kept)


async def test_what_says_delete_goes_although_the_workspace_that_leaves_keeps_the_repository_and_deletes_its_object(
    world: World,
    keys: Controller[DeployKey],
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
) -> None:
    host.invites = False
    world.add(deploy_key_object(deletionPolicy="Delete"), collaborator_object(deletionPolicy="Delete"))
    await world.reconcile(keys, "key")
    await world.reconcile(users, "alice")
    world.add(api_binding(terminating=True))
    world.kcp.remove("repositories", "site")
    assert isinstance(await delete_key(world, keys), Released)
    assert isinstance(await delete_user(world, users), Released)
    assert host.repositories[site.id].keys == {}
    assert host.repositories[site.id].granted == {}


# ---- collaborators


@pytest.mark.parametrize("accepted", [False, True])
async def test_a_pending_invitation_is_withdrawn_and_an_accepted_grant_revoked(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository, accepted: bool
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    if accepted:
        host.accept(site.id, "alice")
    assert isinstance(await delete_user(world, users), Released)
    assert host.repositories[site.id].invited == {}
    assert host.repositories[site.id].granted == {}


async def test_an_invitation_that_is_accepted_while_it_is_withdrawn_leaves_no_access(
    world: World,
    users: Controller[Collaborator],
    host: StubBackend,
    site: HostRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    cancel = host.cancel_invitation

    async def too_late(repo_id: str, invitation_id: str) -> None:
        host.accept(site.id, "alice")
        await cancel(repo_id, invitation_id)

    monkeypatch.setattr(host, "cancel_invitation", too_late)
    assert isinstance(await delete_user(world, users), Released)
    assert host.repositories[site.id].granted == {}


async def test_access_given_by_hand_stays(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    host.repositories[site.id].granted["alice"] = "push"
    world.add(collaborator_object())
    await world.reconcile(users, "alice")
    await delete_user(world, users)
    assert host.repositories[site.id].granted == {"alice": "push"}


async def test_access_given_by_hand_stays_when_an_object_goes_that_was_too_late_to_give_any(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    world.add(collaborator_object(expiresAt="2026-01-01T00:00:00Z"))
    await world.reconcile(users, "alice")
    host.repositories[site.id].granted["alice"] = "admin"
    assert isinstance(await delete_user(world, users), Released)
    assert host.repositories[site.id].granted == {"alice": "admin"}


async def test_an_invitation_whose_answer_was_lost_is_withdrawn(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    def die() -> None:
        raise Killed

    world.add(collaborator_object())
    world.kcp.once(lambda r: r.subresource == "status", die)
    with pytest.raises(Killed):
        await world.reconcile(users, "alice")
    assert await world.claim_of("collaborators", "alice") is not None
    await delete_user(world, users)
    assert host.repositories[site.id].invited == {}


# ---- twins


async def test_a_duplicate_key_that_goes_takes_nothing_from_the_object_that_stays(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    """Of two objects of one second the later was first: the key counts as made by it, and the other is the elder."""
    second = moment()
    world.add(deploy_key_object(metadata={"creationTimestamp": second, "uid": "b"}, publicKey=GIVEN))
    await world.reconcile(keys, "key")
    world.add(deploy_key_object("elder", metadata={"creationTimestamp": second, "uid": "a"}, publicKey=GIVEN))
    assert isinstance(await world.reconcile(keys, "elder"), Ready)
    assert isinstance(await world.reconcile(keys, "key"), Terminal)
    assert isinstance(await delete_key(world, keys), Released)
    assert [key.key for key in host.repositories[site.id].keys.values()] == [GIVEN]


async def test_a_duplicate_collaborator_that_goes_takes_nothing_from_the_object_that_stays(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    host.invites = False
    second = moment()
    world.add(collaborator_object(metadata={"creationTimestamp": second, "uid": "b"}))
    await world.reconcile(users, "alice")
    world.add(collaborator_object("elder", metadata={"creationTimestamp": second, "uid": "a"}, username="Alice"))
    assert isinstance(await world.reconcile(users, "elder"), Ready)
    assert isinstance(await world.reconcile(users, "alice"), Terminal)
    assert isinstance(await delete_user(world, users), Released)
    assert host.repositories[site.id].granted == {"alice": "push"}


async def test_of_two_objects_of_the_provider_before_this_one_the_younger_goes_without_the_access(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    host.repositories[site.id].granted["alice"] = "push"
    for name, made in (("elder", "2025-01-01T00:00:00Z"), ("alice", "2025-01-02T00:00:00Z")):
        metadata = {"finalizers": [COLLABORATORS.finalizer], "creationTimestamp": made}
        ready = {"observedGeneration": 1, "conditions": [condition("Ready", "True", "Reconciled")]}
        world.add(collaborator_object(name, metadata=metadata, status=ready))
        await world.reconcile(users, name)
    assert isinstance(await delete_user(world, users), Released)
    assert host.repositories[site.id].granted == {"alice": "push"}


async def test_the_elder_goes_with_the_access_that_it_gave_and_a_refused_duplicate_gives_it_anew(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    """Or the duplicate would find access that nobody made, and leave it behind when it goes."""
    host.invites = False
    world.add(collaborator_object(metadata={"creationTimestamp": "2025-01-01T00:00:00Z"}))
    await world.reconcile(users, "alice")
    world.add(collaborator_object("younger"))
    assert isinstance(await world.reconcile(users, "younger"), Terminal)
    await delete_user(world, users)
    assert host.repositories[site.id].granted == {}
    await world.reconcile(users, "younger")
    assert host.repositories[site.id].granted == {"alice": "push"}
    raw = world.kcp.stored("collaborators", "younger")
    assert raw is not None
    assert raw["status"]["origin"] == "Created"
