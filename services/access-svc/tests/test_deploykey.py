"""DeployKey: state in, one pass, state out. The workspace and the host are in memory, everything between is real."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from access_svc.deploykey import material
from access_svc.deploykey.pair import secret_name
from codecommon.api.access import DeployKey
from codecommon.api.kinds import DEPLOY_KEYS
from codecommon.api.meta import Workspace
from codecommon.api.results import NotReady, Ready, Released, Retryable, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostKey, HostRepository, HostUnavailable, Listed
from codecommon.kcp.client import Conflict, JsonObject
from codecommon.testing.builders import (
    ENDPOINT,
    condition,
    deploy_key_object,
    made_repository,
    secret_object,
    validated_connection,
)
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import NAMESPACE, World, conditions
from codecommon.testing.objects import Request

GIVEN = material.generate().public
OTHER = material.generate().public
THIRD = material.generate().public
FOURTH = material.generate().public
HELD = {"finalizers": [DEPLOY_KEYS.finalizer]}


class Killed(BaseException):
    """The process dies here: nothing that handles errors sees it."""


def pair(world: World) -> JsonObject | None:
    return world.kcp.stored("secrets", "deploykey-key", namespace=NAMESPACE)


def entry(world: World, name: str) -> str:
    secret = pair(world)
    assert secret is not None
    return base64.b64decode(secret["data"].get(name, "")).decode()


def on_host(host: StubBackend, site: HostRepository) -> list[HostKey]:
    return list(host.repositories[site.id].keys.values())


def done(host: StubBackend) -> list[str]:
    return [method for method, _ in host.writes]


def writes(request: Request) -> str:
    return "Secret" if request.resource == "secrets" else request.subresource


def rotated(ago: timedelta) -> str:
    return (datetime.now(UTC) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- a generated pair


async def test_a_generated_pair_is_stored_before_it_is_registered_and_mounted_only_after(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object())
    seen: list[tuple[list[str], str]] = []
    world.kcp.before.append(
        lambda r: seen.append((done(host), r.method)) if r.writes and r.resource == "secrets" else None
    )

    assert isinstance(await world.reconcile(keys, "key"), Ready)

    assert seen == [([], "POST"), (["create_deploy_key"], "PATCH")]
    secret = pair(world)
    assert secret is not None
    assert secret["type"] == "kubernetes.io/ssh-auth"
    assert secret["metadata"]["ownerReferences"][0]["uid"] == world.stored("deploykeys", "key")["metadata"]["uid"]
    assert set(secret["data"]) == {"ssh-privatekey", "ssh-publickey"}
    private = load_ssh_private_key(entry(world, "ssh-privatekey").encode(), None)
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    (key,) = on_host(host, site)
    assert (key.title, key.read_only) == ("key", True)
    assert public.decode() == key.key
    assert entry(world, "ssh-publickey").startswith(key.key)
    status = world.stored("deploykeys", "key")["status"]
    assert status["secretRef"] == {"name": "deploykey-key", "namespace": NAMESPACE, "key": "ssh-privatekey"}
    assert (status["keyID"], status["origin"], status["host"]) == (key.id, "Created", "git.example")
    assert conditions(world.stored("deploykeys", "key")) == {"Ready": ("True", "Reconciled")}


async def test_until_the_key_is_registered_consumers_find_no_private_key(
    world: World, keys: Controller[DeployKey], host: StubBackend
) -> None:
    world.add(deploy_key_object())
    host.raise_next("create_deploy_key", Terminal("DeployKeysDisabled", "deploy keys are disabled"))

    await world.reconcile(keys, "key")

    assert entry(world, "ssh-privatekey") == "\n"
    assert "secretRef" not in world.stored("deploykeys", "key")["status"]
    assert conditions(world.stored("deploykeys", "key"))["Stalled"] == ("True", "DeployKeysDisabled")
    assert await world.claim_of("deploykeys", "key") is None


async def test_a_crash_between_store_and_register_never_leaves_a_second_key(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object())
    host.raise_next("create_deploy_key", Killed())  # pyright: ignore[reportArgumentType]
    with pytest.raises(Killed):
        await world.reconcile(keys, "key")
    waiting = entry(world, "next-ssh-publickey")

    await world.reconcile(keys, "key")

    (key,) = on_host(host, site)
    assert waiting.startswith(key.key)
    assert entry(world, "ssh-publickey") == waiting


async def test_a_crash_between_register_and_status_never_leaves_a_second_key(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object())

    def die() -> None:
        raise Killed

    world.kcp.once(lambda r: r.resource == "secrets" and r.method == "PATCH", die)
    with pytest.raises(Killed):
        await world.reconcile(keys, "key")

    await world.reconcile(keys, "key")

    (key,) = on_host(host, site)
    assert world.stored("deploykeys", "key")["status"]["keyID"] == key.id
    assert world.stored("deploykeys", "key")["status"]["origin"] == "Created"
    assert entry(world, "ssh-publickey").startswith(key.key)


async def test_a_settled_object_costs_no_write(world: World, keys: Controller[DeployKey], host: StubBackend) -> None:
    world.add(deploy_key_object())
    await world.reconcile(keys, "key")
    world.kcp.requests.clear()
    host.writes.clear()

    await world.reconcile(keys, "key")

    assert [r for r in world.kcp.requests if r.writes] == []
    assert host.writes == []


@pytest.mark.parametrize("type_", ["Opaque", "kubernetes.io/ssh-auth"])
async def test_a_secret_of_that_name_that_is_not_ours_is_left_alone(
    world: World, keys: Controller[DeployKey], host: StubBackend, type_: str
) -> None:
    foreign = secret_object("deploykey-key", **{"ssh-privatekey": "theirs"}) | {"type": type_}
    world.add(foreign, deploy_key_object())

    result = await world.reconcile(keys, "key")

    assert isinstance(result, Terminal)
    assert result.reason == "SecretNameTaken"
    assert host.writes == []
    assert entry(world, "ssh-privatekey") == "theirs"


async def test_a_secret_put_where_ours_was_is_neither_overwritten_nor_deleted(
    world: World, keys: Controller[DeployKey], host: StubBackend
) -> None:
    world.add(deploy_key_object())
    await world.reconcile(keys, "key")
    world.kcp.remove("secrets", "deploykey-key", namespace=NAMESPACE)
    foreign = secret_object("deploykey-key", **{"ssh-privatekey": "theirs"}) | {"type": "kubernetes.io/ssh-auth"}
    world.add(foreign)

    result = await world.reconcile(keys, "key")
    assert isinstance(result, Terminal)
    assert result.reason == "SecretNameTaken"
    world.kcp.remove("deploykeys", "key")
    await world.reconcile(keys, "key")

    assert world.kcp.stored("deploykeys", "key") is None
    assert entry(world, "ssh-privatekey") == "theirs"


def test_a_name_that_would_be_too_long_ends_in_a_hash() -> None:
    def name_of(name: str) -> str:
        raw = deploy_key_object(name)
        raw["metadata"] |= {"uid": "u", "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}
        return secret_name(DeployKey.parse(raw, Workspace(ENDPOINT, "c1")))

    assert name_of("a" * 243) == "deploykey-" + "a" * 243
    long, other = name_of("a" * 252 + "b"), name_of("a" * 252 + "c")
    assert len(long) == len(other) == 253
    assert long != other


async def test_a_secret_that_somebody_deleted_is_replaced_by_a_new_pair_and_the_lost_key_removed(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object())
    await world.reconcile(keys, "key")
    (lost,) = on_host(host, site)
    world.kcp.remove("secrets", "deploykey-key", namespace=NAMESPACE)

    await world.reconcile(keys, "key")

    (key,) = on_host(host, site)
    assert key.id != lost.id
    assert entry(world, "ssh-publickey").startswith(key.key)
    assert done(host)[-2:] == ["create_deploy_key", "delete_deploy_key"]


async def test_without_the_claim_on_secrets_the_object_says_so(world: World, keys: Controller[DeployKey]) -> None:
    world.add(deploy_key_object())
    await world.reconcile(keys, "key")
    world.kcp.refused.add("secrets")
    world.kcp.edit("deploykeys", "key", {"spec": {"title": "new"}})
    result = await world.reconcile(keys, "key")
    assert isinstance(result, Terminal)
    assert result.reason == "SecretsClaimNotAccepted"


# ---- a key that a person gave


async def test_a_given_key_is_registered_and_no_secret_is_made(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN + " me@laptop", title="laptop", readOnly=False))
    await world.reconcile(keys, "key")
    (key,) = on_host(host, site)
    assert (key.key, key.title, key.read_only) == (GIVEN, "laptop", False)
    assert pair(world) is None


async def test_new_material_goes_in_before_the_old_goes_out(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    host.writes.clear()
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": OTHER}})

    await world.reconcile(keys, "key")

    assert done(host) == ["create_deploy_key", "delete_deploy_key"]
    (key,) = on_host(host, site)
    assert key.key == OTHER
    assert world.stored("deploykeys", "key")["status"]["keyID"] == key.id
    assert "previousKeyID" not in world.stored("deploykeys", "key")["status"]


async def test_an_old_key_whose_removal_fails_is_not_forgotten(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": OTHER}})
    host.raise_next("delete_deploy_key", HostUnavailable("502"))

    assert isinstance(await world.reconcile(keys, "key"), Retryable)
    assert len(on_host(host, site)) == 2

    await world.reconcile(keys, "key")
    assert [key.key for key in on_host(host, site)] == [OTHER]
    assert "previousKeyID" not in world.stored("deploykeys", "key")["status"]


async def test_going_back_to_a_key_that_was_to_be_removed_keeps_it(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    (first,) = on_host(host, site)
    # The claim is that of the second key by then, and long after the first.
    host.repositories[site.id].keys[first.id] = replace(first, created_at=first.created_at - timedelta(hours=1))
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": OTHER}})
    host.raise_next("delete_deploy_key", Retryable("RateLimited", "later"))
    await world.reconcile(keys, "key")
    assert world.stored("deploykeys", "key")["status"]["previousKeyID"] == first.id
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": GIVEN}})

    assert isinstance(await world.reconcile(keys, "key"), Ready)

    assert [key.id for key in on_host(host, site)] == [first.id]
    status = world.stored("deploykeys", "key")["status"]
    assert (status["keyID"], status["origin"]) == (first.id, "Created")
    assert "previousKeyID" not in status


async def test_an_edit_while_the_new_key_is_registered_loses_neither_key(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": OTHER}})
    create = host.create_deploy_key

    async def edited_meanwhile(repo_id: str, title: str, public_key: str, read_only: bool) -> HostKey:
        monkeypatch.undo()
        made = await create(repo_id, title, public_key, read_only)
        world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": THIRD}})
        return made

    monkeypatch.setattr(host, "create_deploy_key", edited_meanwhile)

    assert isinstance(await world.reconcile(keys, "key"), Retryable)
    assert [world.stored("deploykeys", "key")["status"][name] for name in ("previousKeyID", "keyID")] == [
        k.id for k in on_host(host, site)
    ]
    assert isinstance(await world.reconcile(keys, "key"), Ready)

    assert [key.key for key in on_host(host, site)] == [THIRD]


async def test_a_crash_before_the_old_key_is_removed_loses_neither_key_to_an_edit(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": OTHER}})
    host.raise_next("delete_deploy_key", Killed())  # pyright: ignore[reportArgumentType]
    with pytest.raises(Killed):
        await world.reconcile(keys, "key")
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": THIRD}})

    assert isinstance(await world.reconcile(keys, "key"), Ready)

    assert [key.key for key in on_host(host, site)] == [THIRD]


@pytest.mark.parametrize("first", [True, False])
async def test_a_key_whose_registration_was_never_answered_is_removed_when_another_is_wanted(
    world: World,
    keys: Controller[DeployKey],
    host: StubBackend,
    site: HostRepository,
    monkeypatch: pytest.MonkeyPatch,
    first: bool,
) -> None:
    world.add(deploy_key_object(publicKey=OTHER if first else GIVEN))
    if not first:
        await world.reconcile(keys, "key")
        world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": OTHER}})
    create = host.create_deploy_key

    async def unanswered(repo_id: str, title: str, public_key: str, read_only: bool) -> HostKey:
        monkeypatch.undo()
        await create(repo_id, title, public_key, read_only)
        raise HostUnavailable("timeout")

    monkeypatch.setattr(host, "create_deploy_key", unanswered)
    assert isinstance(await world.reconcile(keys, "key"), Retryable)
    by_hand = host.add_key(site.id, "by hand", FOURTH)
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": THIRD}})

    assert isinstance(await world.reconcile(keys, "key"), Ready)

    assert [key.key for key in on_host(host, site)] == [by_hand.key, THIRD]


async def test_a_new_title_or_access_is_delete_then_create(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN, title="one"))
    await world.reconcile(keys, "key")
    for spec, seen in (({"title": "two"}, ("two", True)), ({"readOnly": False}, ("two", False))):
        host.writes.clear()
        world.kcp.edit("deploykeys", "key", {"spec": spec})
        await world.reconcile(keys, "key")
        assert done(host) == ["delete_deploy_key", "create_deploy_key"]
        (key,) = on_host(host, site)
        assert (key.title, key.read_only) == seen


async def test_a_replacement_is_retried_until_the_key_is_there_and_says_so_meanwhile(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN, readOnly=False))
    await world.reconcile(keys, "key")
    world.kcp.edit("deploykeys", "key", {"spec": {"title": "new"}})
    world.kcp.edit("deploykeys", "key", {"spec": {"readOnly": None}})
    for _ in range(2):
        host.raise_next("create_deploy_key", HostUnavailable("502"))
        assert isinstance(await world.reconcile(keys, "key"), Retryable)
        assert conditions(world.stored("deploykeys", "key"))["KeyReplacing"] == ("True", "Recreating")
        assert is_due(world, keys), "nothing is in its place"
        assert on_host(host, site) == []

    await world.reconcile(keys, "key")

    assert conditions(world.stored("deploykeys", "key")) == {"Ready": ("True", "Reconciled")}
    (key,) = on_host(host, site)
    assert (key.title, key.read_only) == ("new", False), "what spec leaves out is as it was before"


async def test_a_key_removed_on_the_host_comes_back_as_it_was(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    for spec in ({}, {"publicKey": GIVEN}):
        world.kcp.add(deploy_key_object(**spec))
        await world.reconcile(keys, "key")
        (before,) = on_host(host, site)
        del host.repositories[site.id].keys[before.id]
        await world.reconcile(keys, "key")
        (after,) = on_host(host, site)
        assert (after.key, after.title, after.read_only) == (before.key, before.title, before.read_only)
        del host.repositories[site.id].keys[after.id]


async def test_a_key_registered_before_a_crash_is_ours_and_one_made_by_hand_is_not(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    for claimed, origin in ((True, "Created"), (False, "Adopted")):
        host.repositories[site.id].keys.clear()
        host.add_key(site.id, "key", GIVEN)
        world.kcp.add(deploy_key_object(publicKey=GIVEN))
        if claimed:
            await world.claim("deploykeys", "key", datetime.fromisoformat(rotated(timedelta(seconds=5))), GIVEN)
        await world.reconcile(keys, "key")
        assert world.stored("deploykeys", "key")["status"]["origin"] == origin
    assert host.writes == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "private key"),
        ("ssh-ed25519 AAAA!", "not base64"),
        ("ssh-ed25519 AAAAC3…", "not base64"),
        ("ssh-ed25519 AAAAC3NzaC1yc2E=", "cut"),
        ("ssh-dss AAAA", "algorithms"),
        (f"{GIVEN}\n{OTHER}", "one line"),
    ],
)
async def test_what_is_no_public_key_is_refused_before_any_call(
    world: World, keys: Controller[DeployKey], host: StubBackend, text: str, says: str
) -> None:
    world.add(deploy_key_object(publicKey=text))
    host.raise_next("list_deploy_keys", AssertionError("the host was called"))
    result = await world.reconcile(keys, "key")
    assert isinstance(result, Terminal)
    assert result.reason == "InvalidPublicKey"
    assert says in result.message
    assert "AAAA" not in result.message


@pytest.mark.parametrize("reason", ["KeyInUse", "DeployKeysDisabled", "MissingPermission", "InvalidPublicKey"])
async def test_a_refusal_of_the_host_stalls_with_its_reason(
    world: World, keys: Controller[DeployKey], host: StubBackend, reason: str
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    host.raise_next("create_deploy_key", Terminal(reason, "no"))
    await world.reconcile(keys, "key")
    assert conditions(world.stored("deploykeys", "key"))["Stalled"] == ("True", reason)


def an_empty_list_comes_first(host: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next look at the keys is answered as before they were registered."""
    list_deploy_keys = host.list_deploy_keys

    async def late(repo_id: str) -> Listed[HostKey] | None:
        monkeypatch.setattr(host, "list_deploy_keys", list_deploy_keys)
        return Listed((), datetime.now(UTC).replace(microsecond=0))

    monkeypatch.setattr(host, "list_deploy_keys", late)


def an_unknown_id_comes_first(host: StubBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next look at one key is answered as before it was registered."""
    get_deploy_key = host.get_deploy_key

    async def late(repo_id: str, key_id: str) -> HostKey | None:
        monkeypatch.setattr(host, "get_deploy_key", get_deploy_key)
        return None

    monkeypatch.setattr(host, "get_deploy_key", late)


@pytest.mark.parametrize("spec", [{}, {"publicKey": GIVEN}])
async def test_a_registered_key_that_the_list_leaves_out_is_known_by_its_id(
    world: World,
    keys: Controller[DeployKey],
    host: StubBackend,
    monkeypatch: pytest.MonkeyPatch,
    spec: dict[str, str],
) -> None:
    world.add(deploy_key_object(**spec))
    assert isinstance(await world.reconcile(keys, "key"), Ready)
    world.kcp.requests.clear()
    host.raise_next("create_deploy_key", AssertionError("the key was registered again"))
    an_empty_list_comes_first(host, monkeypatch)
    assert isinstance(await world.reconcile(keys, "key"), Ready)
    assert world.kcp.writes("deploykeys") == []


@pytest.mark.parametrize("spec", [{}, {"publicKey": GIVEN}])
async def test_a_registered_key_that_is_not_even_shown_by_its_id_is_in_use_elsewhere_and_not_ready_at_once(
    world: World,
    keys: Controller[DeployKey],
    host: StubBackend,
    site: HostRepository,
    monkeypatch: pytest.MonkeyPatch,
    spec: dict[str, str],
) -> None:
    world.add(deploy_key_object(**spec))
    assert isinstance(await world.reconcile(keys, "key"), Ready)
    claim = await world.claim_of("deploykeys", "key")
    for _ in range(2):
        an_empty_list_comes_first(host, monkeypatch)
        an_unknown_id_comes_first(host, monkeypatch)
        result = await world.reconcile(keys, "key")
        assert isinstance(result, NotReady)
        assert result.reason == "KeyInUse"
        assert result.requeue_after is not None, "the host may lag behind all the same"
        assert conditions(world.stored("deploykeys", "key"))["Ready"] == ("False", "KeyInUse")
        assert await world.claim_of("deploykeys", "key") == claim, "or it would be waited for for ever"
    assert isinstance(await world.reconcile(keys, "key"), Ready)
    assert conditions(world.stored("deploykeys", "key")) == {"Ready": ("True", "Reconciled")}
    assert done(host) == ["create_deploy_key"]


@pytest.mark.parametrize("why", ["the claim is old", "the claim announced another key"])
async def test_a_key_that_is_registered_elsewhere_is_not_waited_for(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository, why: str
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    host.repositories[site.id].keys.clear()
    taken = GIVEN
    if why == "the claim is old":
        await world.claim("deploykeys", "key", datetime.fromisoformat(rotated(timedelta(minutes=3))), GIVEN)
    else:
        taken = OTHER
        world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": OTHER}})
    host.add_key(host.add_repository("octocat", "other").id, "key", taken)
    result = await world.reconcile(keys, "key")
    assert isinstance(result, Terminal)
    assert result.reason == "KeyInUse"


async def test_a_key_that_was_ours_a_moment_ago_and_was_taken_elsewhere_is_not_ready_at_once(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    assert isinstance(await world.reconcile(keys, "key"), Ready)
    host.repositories[site.id].keys.clear()
    host.add_key(host.add_repository("octocat", "other").id, "key", GIVEN)
    await world.reconcile(keys, "key")
    assert conditions(world.stored("deploykeys", "key"))["Ready"] == ("False", "KeyInUse")


async def test_a_key_that_somebody_removes_just_after_it_was_registered_comes_back_at_once(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object())
    await world.reconcile(keys, "key")
    host.repositories[site.id].keys.clear()
    assert isinstance(await world.reconcile(keys, "key"), Ready)
    (key,) = on_host(host, site)
    assert world.stored("deploykeys", "key")["status"]["keyID"] == key.id


async def test_keys_that_are_not_shown_are_not_taken_for_absent(
    world: World, keys: Controller[DeployKey], host: StubBackend
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    host.raise_next("list_deploy_keys", Terminal("MissingPermission", "the token needs administration=read"))
    await world.reconcile(keys, "key")
    assert conditions(world.stored("deploykeys", "key"))["Stalled"] == ("True", "MissingPermission")
    assert done(host) == []


async def test_two_objects_for_one_key_the_older_has_it(
    world: World, keys: Controller[DeployKey], host: StubBackend
) -> None:
    world.add(deploy_key_object("elder", metadata={"creationTimestamp": "2025-01-01T00:00:00Z"}, publicKey=GIVEN))
    world.add(deploy_key_object(publicKey=GIVEN + " other comment"))
    result = await world.reconcile(keys, "key")
    assert isinstance(result, Terminal)
    assert result.reason == "DuplicateDeployKey"
    assert host.writes == []


async def test_what_is_no_public_key_stops_neither_its_neighbours_nor_its_own_end(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object("broken", publicKey=OTHER), deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "broken")
    world.kcp.edit("deploykeys", "broken", {"spec": {"publicKey": "ssh-ed25519 AAAAC3…"}})

    assert isinstance(await world.reconcile(keys, "key"), Ready)
    world.kcp.remove("deploykeys", "broken")
    await world.reconcile(keys, "broken")

    assert world.kcp.stored("deploykeys", "broken") is None
    assert [key.key for key in on_host(host, site)] == [GIVEN]


async def test_changing_to_a_given_key_removes_the_pair_and_its_secret(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object())
    await world.reconcile(keys, "key")
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": GIVEN}})
    await world.reconcile(keys, "key")
    assert [key.key for key in on_host(host, site)] == [GIVEN]
    assert pair(world) is None
    assert "secretRef" not in world.stored("deploykeys", "key")["status"]


# ---- waiting


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.kcp.edit("repositories", "site", {"status": {"repoID": None}}), "RepositoryNotReady"),
        (lambda w: w.kcp.remove("repositories", "site"), "RepositoryNotReady"),
        (lambda w: w.kcp.edit("repositories", "site", {"metadata": {"finalizers": None}}), ""),
        (lambda w: w.kcp.edit("connections", "main", {"spec": {"owner": "x"}}), "ConnectionNotReady"),
        (lambda w: w.host.repositories.clear(), "RepositoryNotReady"),
    ],
)
async def test_it_waits_for_its_repository_and_connection(
    world: World, keys: Controller[DeployKey], change: Callable[[World], Any], reason: str
) -> None:
    world.add(deploy_key_object())
    change(world)
    result = await world.reconcile(keys, "key")
    if reason:
        assert isinstance(result, NotReady)
        assert result.reason == reason
    else:
        assert isinstance(result, Ready)


async def test_a_repository_on_another_host_now_is_not_touched(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(status={"host": "elsewhere.example", "origin": "Created", "keyID": "1"}))
    result = await world.reconcile(keys, "key")
    assert isinstance(result, Terminal)
    assert result.reason == "IdentityConflict"


async def test_a_key_stays_with_its_repository_when_the_account_is_renamed_and_somebody_else_takes_the_old_name(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    (key,) = on_host(host, site)
    host.rename(site.id, "site", owner="acme")
    other = host.add_repository("octocat", "site")
    host.add_key(other.id, "somebody else's", OTHER)
    world.add(validated_connection("moved", owner="acme"))
    world.kcp.edit("repositories", "site", {"spec": {"connectionRef": "moved"}, "status": {"owner": "acme"}})
    host.writes.clear()

    assert isinstance(await world.reconcile(keys, "key"), Ready)
    assert host.writes == []
    assert world.stored("deploykeys", "key")["status"]["keyID"] == key.id

    world.kcp.edit("deploykeys", "key", {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    assert isinstance(await world.reconcile(keys, "key"), Released)
    assert host.writes == [("delete_deploy_key", (site.id, key.id))]


async def test_an_archived_repository_gets_no_key(world: World, keys: Controller[DeployKey], host: StubBackend) -> None:
    archived = condition("Archived", "True", "ArchivedOnHost")
    world.kcp.edit("repositories", "site", {"status": {"conditions": [archived]}})
    world.add(deploy_key_object(publicKey=GIVEN))
    result = await world.reconcile(keys, "key")
    assert isinstance(result, Terminal)
    assert result.reason == "RepositoryArchived"
    assert host.writes == []


# ---- rotation


def is_due(world: World, keys: Controller[DeployKey]) -> bool:
    return keys.is_due(world.start(keys, "key").object, datetime.now(UTC))


async def test_a_pair_that_is_old_enough_is_replaced_and_the_old_key_works_a_while_longer(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(rotateEvery="1h"))
    result = await world.reconcile(keys, "key")
    assert isinstance(result, Ready)
    assert result.requeue_after is not None
    assert timedelta(minutes=59) < result.requeue_after <= timedelta(hours=1)
    (first,) = on_host(host, site)
    assert not is_due(world, keys)

    world.kcp.edit("deploykeys", "key", {"status": {"rotatedAt": rotated(timedelta(minutes=61))}})
    assert is_due(world, keys)
    result = await world.reconcile(keys, "key")
    assert isinstance(result, Ready)
    assert result.requeue_after is not None
    assert result.requeue_after <= timedelta(minutes=10)
    assert not is_due(world, keys)
    assert [key.id for key in on_host(host, site)] == [first.id, world.stored("deploykeys", "key")["status"]["keyID"]]
    assert world.stored("deploykeys", "key")["status"]["previousKeyID"] == first.id
    assert entry(world, "ssh-publickey").startswith(on_host(host, site)[1].key)

    await world.reconcile(keys, "key")
    assert len(on_host(host, site)) == 2, "the overlap is not over"

    world.kcp.edit("deploykeys", "key", {"status": {"rotatedAt": rotated(timedelta(minutes=11))}})
    assert is_due(world, keys)
    await world.reconcile(keys, "key")
    assert [key.id for key in on_host(host, site)] == [world.stored("deploykeys", "key")["status"]["keyID"]]
    assert "previousKeyID" not in world.stored("deploykeys", "key")["status"]


async def test_a_pair_whose_replacement_is_refused_stays_where_consumers_look(
    world: World, keys: Controller[DeployKey], host: StubBackend
) -> None:
    world.add(deploy_key_object(rotateEvery="1h"))
    await world.reconcile(keys, "key")
    works = entry(world, "ssh-privatekey")
    world.kcp.edit("deploykeys", "key", {"status": {"rotatedAt": rotated(timedelta(minutes=61))}})
    host.raise_next("create_deploy_key", HostUnavailable("502"))

    await world.reconcile(keys, "key")
    assert entry(world, "ssh-privatekey") == works

    await world.reconcile(keys, "key")
    assert entry(world, "ssh-privatekey") != works


@pytest.mark.parametrize("write", ["status", "Secret"])
async def test_a_crash_in_a_rotation_leaves_no_key_that_nobody_removes(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository, write: str
) -> None:
    world.add(deploy_key_object(rotateEvery="1h"))
    await world.reconcile(keys, "key")
    world.kcp.edit("deploykeys", "key", {"status": {"rotatedAt": rotated(timedelta(minutes=61))}})

    def die() -> None:
        raise Killed

    world.kcp.once(lambda r: len(on_host(host, site)) == 2 and r.writes and writes(r) == write, die)
    with pytest.raises(Killed):
        await world.reconcile(keys, "key")

    await world.reconcile(keys, "key")
    assert [world.stored("deploykeys", "key")["status"][name] for name in ("previousKeyID", "keyID")] == [
        k.id for k in on_host(host, site)
    ]
    world.kcp.remove("deploykeys", "key")
    await world.reconcile(keys, "key")
    assert on_host(host, site) == []


async def test_a_key_registered_again_and_not_recorded_is_not_rotated_yet(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    """A rotation would displace the id in status, and nothing else knows the key on the host."""
    world.add(deploy_key_object(rotateEvery="1h"))
    await world.reconcile(keys, "key")
    world.kcp.edit("deploykeys", "key", {"status": {"rotatedAt": rotated(timedelta(minutes=61))}})
    (lost,) = on_host(host, site)
    host.repositories[site.id].keys.clear()
    again = host.add_key(site.id, "key", lost.key)

    await world.reconcile(keys, "key")
    assert world.stored("deploykeys", "key")["status"]["keyID"] == again.id

    world.kcp.edit("deploykeys", "key", {"status": {"rotatedAt": rotated(timedelta(minutes=61))}})
    await world.reconcile(keys, "key")
    assert world.stored("deploykeys", "key")["status"]["previousKeyID"] == again.id


async def test_the_old_key_works_on_until_the_new_pair_is_where_consumers_look_and_a_while_longer(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(rotateEvery="1h"))
    await world.reconcile(keys, "key")
    works = entry(world, "ssh-privatekey")
    world.kcp.edit("deploykeys", "key", {"status": {"rotatedAt": rotated(timedelta(minutes=61))}})

    def refuse() -> None:
        raise Conflict(409, "Conflict", "changed by others")

    world.kcp.once(lambda r: len(on_host(host, site)) == 2 and r.writes and r.resource == "secrets", refuse)
    assert isinstance(await world.reconcile(keys, "key"), Retryable)
    assert entry(world, "ssh-privatekey") == works
    # The refusals go on for longer than the overlap.
    world.kcp.edit("deploykeys", "key", {"status": {"rotatedAt": rotated(timedelta(minutes=30))}})

    await world.reconcile(keys, "key")

    assert entry(world, "ssh-privatekey") != works
    assert len(on_host(host, site)) == 2
    assert done(host) == ["create_deploy_key"] * 2
    await world.reconcile(keys, "key")
    assert len(on_host(host, site)) == 2, "the overlap is not over"


async def test_a_lost_pair_whose_successor_is_late_leaves_no_key_when_nothing_rotates(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object())
    await world.reconcile(keys, "key")
    world.kcp.remove("secrets", "deploykey-key", namespace=NAMESPACE)

    def refuse() -> None:
        raise Conflict(409, "Conflict", "changed by others")

    world.kcp.once(lambda r: len(on_host(host, site)) == 2 and r.writes and r.resource == "secrets", refuse)
    assert isinstance(await world.reconcile(keys, "key"), Retryable)

    assert isinstance(await world.reconcile(keys, "key"), Ready)

    (key,) = on_host(host, site)
    assert entry(world, "ssh-publickey").startswith(key.key)
    assert "previousKeyID" not in world.stored("deploykeys", "key")["status"]


async def test_a_pair_registered_again_is_no_younger_for_it(
    world: World, keys: Controller[DeployKey], host: StubBackend, site: HostRepository
) -> None:
    world.add(deploy_key_object(rotateEvery="1h"))
    await world.reconcile(keys, "key")
    since = rotated(timedelta(minutes=50))
    world.kcp.edit("deploykeys", "key", {"status": {"rotatedAt": since}})

    world.kcp.edit("deploykeys", "key", {"spec": {"title": "new"}})
    await world.reconcile(keys, "key")
    assert world.stored("deploykeys", "key")["status"]["rotatedAt"] == since

    host.repositories[site.id].keys.clear()
    await world.reconcile(keys, "key")
    assert world.stored("deploykeys", "key")["status"]["rotatedAt"] == since


@pytest.mark.parametrize("every", ["tomorrow", "10s", "90"])
async def test_an_interval_that_cannot_be_is_refused(world: World, keys: Controller[DeployKey], every: str) -> None:
    world.add(deploy_key_object(rotateEvery=every))
    result = await world.reconcile(keys, "key")
    assert isinstance(result, Terminal)
    assert "rotateEvery" in result.message


async def test_a_repository_object_made_by_hand_is_enough(
    world: World, keys: Controller[DeployKey], site: HostRepository
) -> None:
    world.add(made_repository("other", repo_id=site.id), deploy_key_object(repositoryRef="other"))
    assert isinstance(await world.reconcile(keys, "key"), Ready)


async def test_no_pair_is_made_on_a_copy_that_was_overtaken(
    world: World, keys: Controller[DeployKey], host: StubBackend
) -> None:
    world.add(deploy_key_object(publicKey=GIVEN))
    await world.reconcile(keys, "key")
    copy = world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": None}})
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": GIVEN}})
    host.writes.clear()
    await world.reconcile(keys, "key", world.start(keys, "key", copy=copy))
    assert (host.writes, pair(world)) == ([], None)


async def test_no_pair_is_deleted_on_a_copy_that_was_overtaken(
    world: World, keys: Controller[DeployKey], host: StubBackend
) -> None:
    world.add(deploy_key_object())
    await world.reconcile(keys, "key")
    generated = world.stored("deploykeys", "key")["status"]["keyID"]
    public = next(key.key for r in host.repositories.values() for key in r.keys.values() if key.id == generated)
    copy = world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": public}})
    world.kcp.edit("deploykeys", "key", {"spec": {"publicKey": None}})
    before = pair(world)
    await world.reconcile(keys, "key", world.start(keys, "key", copy=copy))
    assert pair(world) == before
