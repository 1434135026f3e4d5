"""Objects as the Go provider leaves them: finalizer, id and Ready, no record of who made what."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from access_svc.deploykey import material
from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.kinds import COLLABORATORS, DEPLOY_KEYS
from codecommon.api.results import Ready, Retryable, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostRepository
from codecommon.kcp.client import Conflict, JsonObject
from codecommon.testing.builders import collaborator_object, condition, deploy_key_object, secret_object
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import NAMESPACE, World, conditions, message

GIVEN = material.generate().public
READY = {"observedGeneration": 1, "conditions": [condition("Ready", "True", "Reconciled")]}
KEY_HELD = {"finalizers": [DEPLOY_KEYS.finalizer]}
USER_HELD = {"finalizers": [COLLABORATORS.finalizer]}
REFERENCE = {"name": "deploykey-key", "namespace": NAMESPACE, "key": "ssh-privatekey"}


def secret_of_the_go_provider() -> tuple[JsonObject, str]:
    pair = material.generate()
    data = {"ssh-privatekey": pair.private.reveal(), "ssh-publickey": pair.public + " kedge\n"}
    return secret_object("deploykey-key", **data) | {"type": "kubernetes.io/ssh-auth"}, pair.public


async def test_a_generated_key_is_taken_over_with_its_secret(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    secret, public = secret_of_the_go_provider()
    key = host.add_key(site.id, "made by the other", public, read_only=False)
    status: dict[str, Any] = {**READY, "keyID": key.id, "secretRef": REFERENCE}
    world.add(secret, deploy_key_object(metadata=KEY_HELD, status=status, title="edited", readOnly=True))

    assert isinstance(await world.reconcile(keys, "key"), Ready)
    assert isinstance(await world.reconcile(keys, "key"), Ready)

    assert host.writes == []
    taken = world.stored("deploykeys", "key")
    assert taken["metadata"]["finalizers"] == KEY_HELD["finalizers"]
    assert (taken["status"]["keyID"], taken["status"]["origin"]) == (key.id, "Created")
    assert "title, readOnly" in message(taken, "SettingsDiffer")
    kept = world.kcp.stored("secrets", "deploykey-key", namespace=NAMESPACE)
    assert kept is not None
    assert kept["data"] == secret["data"]
    assert kept["metadata"]["ownerReferences"][0]["uid"] == taken["metadata"]["uid"]

    world.kcp.edit("deploykeys", "key", {"spec": {"title": "again"}})
    await world.reconcile(keys, "key")
    (now,) = host.repositories[site.id].keys.values()
    assert (now.title, now.read_only, now.key) == ("again", True, public)
    assert conditions(world.stored("deploykeys", "key")) == {"Ready": ("True", "Reconciled")}


async def test_a_secret_taken_over_without_a_whole_pair_gets_one_and_an_owner(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    secret, public = secret_of_the_go_provider()
    secret["data"]["ssh-privatekey"] = base64.b64encode(b"cut off").decode()
    key = host.add_key(site.id, "key", public)
    world.add(secret, deploy_key_object(metadata=KEY_HELD, status={**READY, "keyID": key.id, "secretRef": REFERENCE}))

    assert isinstance(await world.reconcile(keys, "key"), Ready)
    assert isinstance(await world.reconcile(keys, "key"), Ready)

    kept = world.kcp.stored("secrets", "deploykey-key", namespace=NAMESPACE)
    assert kept is not None
    assert kept["metadata"]["ownerReferences"][0]["uid"] == world.stored("deploykeys", "key")["metadata"]["uid"]
    (now,) = host.repositories[site.id].keys.values()
    assert material.public_half(base64.b64decode(kept["data"]["ssh-privatekey"]).decode()) == now.key


async def test_a_secret_that_could_not_be_given_its_owner_is_still_taken_over(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    secret, public = secret_of_the_go_provider()
    key = host.add_key(site.id, "key", public)
    world.add(secret, deploy_key_object(metadata=KEY_HELD, status={**READY, "keyID": key.id, "secretRef": REFERENCE}))

    def refuse() -> None:
        raise Conflict(409, "Conflict", "changed by others")

    world.kcp.once(lambda r: r.writes and r.resource == "secrets", refuse)
    assert isinstance(await world.reconcile(keys, "key"), Retryable)

    assert isinstance(await world.reconcile(keys, "key"), Ready)
    assert host.writes == []


async def test_a_given_key_edited_and_never_sent_is_left_as_found(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    key = host.add_key(site.id, "key", material.generate().public)
    world.add(deploy_key_object(metadata=KEY_HELD, status={**READY, "keyID": key.id}, publicKey=GIVEN))
    await world.reconcile(keys, "key")
    await world.reconcile(keys, "key")
    assert host.writes == []
    assert "publicKey" in message(world.stored("deploykeys", "key"), "SettingsDiffer")

    world.kcp.edit("deploykeys", "key", {"spec": {"title": "edited"}})
    await world.reconcile(keys, "key")
    (now,) = host.repositories[site.id].keys.values()
    assert (now.key, now.title) == (GIVEN, "edited")


async def test_a_generated_pair_outlives_an_edit_to_a_given_key_that_was_never_sent(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    secret, public = secret_of_the_go_provider()
    key = host.add_key(site.id, "key", public)
    status: dict[str, Any] = {**READY, "keyID": key.id, "secretRef": REFERENCE}
    world.add(secret, deploy_key_object(metadata=KEY_HELD, status=status, publicKey=GIVEN))
    for _ in range(2):
        assert isinstance(await world.reconcile(keys, "key"), Ready)
    assert host.writes == []
    assert "publicKey" in message(world.stored("deploykeys", "key"), "SettingsDiffer")
    kept = world.kcp.stored("secrets", "deploykey-key", namespace=NAMESPACE)
    assert kept is not None
    assert kept["data"] == secret["data"]


async def test_a_key_that_is_left_as_found_and_opens_nothing_is_not_ready(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    key = host.add_key(site.id, "key", material.generate().public)
    host.repositories[site.id].keys_disabled = True
    world.add(deploy_key_object(metadata=KEY_HELD, status={**READY, "keyID": key.id}, publicKey=GIVEN))
    refused = await world.reconcile(keys, "key")
    assert isinstance(refused, Terminal)
    assert refused.reason == "DeployKeysDisabled"
    assert world.stored("deploykeys", "key")["status"]["keyID"] == key.id


async def test_a_given_key_outlives_an_edit_to_a_generated_one_that_was_never_sent(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    key = host.add_key(site.id, "key", GIVEN)
    world.add(deploy_key_object(metadata=KEY_HELD, status={**READY, "keyID": key.id}, rotateEvery="1h"))
    for _ in range(2):
        assert isinstance(await world.reconcile(keys, "key"), Ready)
    assert host.writes == []
    assert "publicKey" in message(world.stored("deploykeys", "key"), "SettingsDiffer")

    world.kcp.edit("deploykeys", "key", {"spec": {"rotateEvery": None}})
    assert isinstance(await world.reconcile(keys, "key"), Ready)
    (now,) = host.repositories[site.id].keys.values()
    assert now.key != GIVEN


async def test_an_edit_after_an_interrupted_first_pass_is_applied(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    key = host.add_key(site.id, "key", GIVEN)
    world.add(deploy_key_object(metadata=KEY_HELD, status={**READY, "keyID": key.id}, publicKey=GIVEN, title="edited"))
    validated = world.stored("connections", "main")["status"]["conditions"]
    world.kcp.edit("connections", "main", {"status": {"conditions": []}})
    await world.reconcile(keys, "key")
    world.kcp.edit("connections", "main", {"status": {"conditions": validated}})
    world.kcp.edit("deploykeys", "key", {"spec": {"readOnly": False}})

    assert isinstance(await world.reconcile(keys, "key"), Ready)

    (now,) = host.repositories[site.id].keys.values()
    assert (now.title, now.read_only) == ("edited", False)


@pytest.mark.parametrize("first_pass", ["as it is", "while the Connection is not ready"])
async def test_a_grant_with_an_edit_never_sent_is_taken_over(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository, first_pass: str
) -> None:
    host.repositories[site.id].granted["alice"] = "pull"
    world.add(collaborator_object(metadata=USER_HELD, status=READY, permission="admin"))
    if first_pass != "as it is":
        validated = world.stored("connections", "main")["status"]["conditions"]
        world.kcp.edit("connections", "main", {"status": {"conditions": []}})
        await world.reconcile(users, "alice")
        world.kcp.edit("connections", "main", {"status": {"conditions": validated}})

    await world.reconcile(users, "alice")
    await world.reconcile(users, "alice")

    assert host.writes == []
    taken = world.stored("collaborators", "alice")
    assert taken["status"]["origin"] == "Created"
    assert taken["metadata"]["finalizers"] == USER_HELD["finalizers"]
    assert "pull" in message(taken, "SettingsDiffer")

    world.kcp.edit("collaborators", "alice", {"spec": {"permission": "push"}})
    await world.reconcile(users, "alice")
    assert host.repositories[site.id].granted == {"alice": "push"}


async def test_an_open_invitation_is_taken_over(
    world: World, users: Controller[Collaborator], host: StubBackend, site: HostRepository
) -> None:
    invitation = await host.set_collaborator(site.id, "alice", "pull")
    assert invitation is not None
    host.writes.clear()
    status = {**READY, "invitationID": invitation.id}
    world.add(collaborator_object(metadata=USER_HELD, status=status, permission="admin"))

    await world.reconcile(users, "alice")
    await world.reconcile(users, "alice")

    assert host.writes == []
    taken = world.stored("collaborators", "alice")
    assert taken["status"]["origin"] == "Created"
    assert conditions(taken)["InvitationPending"] == ("True", "AwaitingAcceptance")
    host.accept(site.id, "alice")
    assert isinstance(await world.reconcile(users, "alice"), Ready)
    assert host.writes == []


async def test_an_invitation_that_is_gone_by_then_is_not_sent_again(
    world: World, users: Controller[Collaborator], host: StubBackend
) -> None:
    status = {**READY, "observedGeneration": 0, "invitationID": "77"}
    world.add(collaborator_object(metadata=USER_HELD, status=status))
    result = await world.reconcile(users, "alice")
    assert isinstance(result, Terminal)
    assert result.reason == "InvitationDeclined"
    assert host.writes == []
