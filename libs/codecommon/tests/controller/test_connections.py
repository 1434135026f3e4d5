"""From a Connection to a session with its host: what is read, what is kept, and when it is read anew."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from codecommon.api.connection import Connection
from codecommon.api.reasons import Reason
from codecommon.api.results import Interruption, NotReady, Outcome, Ready, Terminal
from codecommon.controller.connections import require_validated
from codecommon.githost.github.credential import AppSecret, TokenSecret
from codecommon.githost.protocol import CredentialRejected, HostTarget
from codecommon.kcp.client import JsonObject
from codecommon.messaging.events import Versions
from codecommon.process.secrets import SecretValue
from codecommon.testing.builders import (
    TOKEN,
    condition,
    connection_object,
    parse_connection,
    secret_object,
    validated_connection,
)
from codecommon.testing.harness import World
from codecommon.testing.objects import workspace


@pytest.fixture
def world() -> World:
    return World()


def reads(world: World) -> list[tuple[str, dict[str, str]]]:
    return [(request.resource, dict(request.params)) for request in world.kcp.requests]


def version(raw: JsonObject) -> str:
    return raw["metadata"]["resourceVersion"]


def main(world: World) -> Connection:
    raw = world.kcp.stored("connections", "main")
    assert raw is not None
    return Connection.parse(raw, world.objects.workspace)


# ---- the credential


async def test_the_secret_key_and_namespace_have_defaults(world: World) -> None:
    secret = world.add(secret_object())
    world.add(connection_object())
    found = await world.connections.credential(world.objects, main(world))
    assert (found.value, found.version) == (TokenSecret(SecretValue(TOKEN)), version(secret))


async def test_the_secret_key_and_namespace_can_be_named(world: World) -> None:
    world.add(secret_object("mine", namespace="team", pat="other"))
    world.add(connection_object(secretRef={"name": "mine", "namespace": "team", "key": "pat"}))
    found = await world.connections.credential(world.objects, main(world))
    assert found.value == TokenSecret(SecretValue("other"))


def no_secret(world: World) -> None:
    pass


def terminating_secret(world: World) -> None:
    raw = secret_object()
    raw["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}
    world.add(raw)


def secret_without_the_key(world: World) -> None:
    world.add(secret_object(other="x"))


def secret_without_data(world: World) -> None:
    raw = secret_object()
    del raw["data"]
    world.add(raw)


def secret_that_is_no_text(world: World) -> None:
    raw = secret_object()
    raw["data"] = {"token": "//79"}
    world.add(raw)


def no_access(world: World) -> None:
    world.kcp.refused.add("secrets")


@pytest.mark.parametrize(
    ("given", "type_", "reason"),
    [
        (no_secret, NotReady, "CredentialUnavailable"),
        (terminating_secret, NotReady, "CredentialUnavailable"),
        (secret_without_the_key, NotReady, "CredentialUnavailable"),
        (secret_without_data, NotReady, "CredentialUnavailable"),
        (secret_that_is_no_text, Terminal, "CredentialInvalid"),
        (no_access, Terminal, "SecretsClaimNotAccepted"),
    ],
)
async def test_a_credential_that_cannot_be_had(
    world: World, given: Any, type_: type[Interruption], reason: str
) -> None:
    given(world)
    world.add(connection_object())
    with pytest.raises(type_) as refused:
        await world.connections.credential(world.objects, main(world))
    assert refused.value.reason == reason


# ---- what is kept


async def known(world: World) -> Versions:
    connection, secret = (
        world.kcp.stored("connections", "main"),
        world.kcp.stored("secrets", "credential", namespace="default"),
    )
    assert connection is not None
    assert secret is not None
    return Versions(connection=version(connection), secret=version(secret))


async def test_what_the_event_does_not_know_is_read_live(world: World) -> None:
    world.add(secret_object(), validated_connection())
    for _ in range(2):
        await world.connections.for_object(world.objects, "main", Versions())
    assert reads(world) == [("connections", {}), ("secrets", {})] * 2


async def test_a_session_read_at_the_versions_of_the_event_is_used_again(world: World) -> None:
    world.add(secret_object(), validated_connection())
    versions = await known(world)
    first = await world.connections.for_object(world.objects, "main", versions)
    assert reads(world) == [
        ("connections", {"resourceVersion": versions.connection}),
        ("secrets", {"resourceVersion": versions.secret}),
    ]
    assert await world.connections.for_object(world.objects, "main", versions) is first
    assert len(world.kcp.requests) == 2


@pytest.mark.parametrize("changed", ["connection", "secret"])
async def test_a_session_older_than_the_event_is_read_anew(world: World, changed: str) -> None:
    world.add(secret_object(), validated_connection())
    old = await world.connections.for_object(world.objects, "main", await known(world))
    if changed == "secret":
        world.kcp.edit("secrets", "credential", {"data": {"token": "bmV3"}}, namespace="default")
    else:
        world.kcp.edit("connections", "main", {"metadata": {"labels": {"a": "b"}}})
    new = await world.connections.for_object(world.objects, "main", await known(world))
    assert new is not old
    assert (new.secret_version != old.secret_version) is (changed == "secret")


async def test_news_of_a_connection_that_concern_nobody_keep_the_open_host(world: World) -> None:
    world.add(secret_object(), validated_connection())
    await world.connections.for_object(world.objects, "main", await known(world))
    world.kcp.edit("connections", "main", {"metadata": {"labels": {"a": "b"}}})
    await world.connections.for_object(world.objects, "main", await known(world))
    assert len(world.opened) == 1


async def test_live_means_live(world: World) -> None:
    world.add(secret_object(), validated_connection())
    versions = await known(world)
    await world.connections.for_object(world.objects, "main", versions)
    world.kcp.requests.clear()
    await world.connections.for_object(world.objects, "main", versions, live=True)
    assert reads(world) == [("connections", {}), ("secrets", {})]


async def test_two_workspaces_never_share_a_session(world: World) -> None:
    for cluster in ("c1", "c2"):
        world.kcp.add(secret_object(), cluster)
        world.kcp.add(validated_connection(), cluster)
    ours = await world.connections.for_object(world.objects, "main", Versions("1", "1", "1"))
    theirs = await world.connections.for_object(world.kcp.objects(workspace("c2")), "main", Versions("1", "1", "1"))
    assert ours is not theirs
    assert len(world.opened) == 2
    assert theirs.connection.workspace.cluster == "c2"


async def test_a_missing_connection_is_waited_for(world: World) -> None:
    with pytest.raises(NotReady) as missing:
        await world.connections.for_object(world.objects, "main", Versions())
    assert missing.value.reason == "ConnectionNotFound"


# ---- a credential that the host rejects


def rejected(reason: Reason = Reason.CREDENTIAL_REJECTED) -> CredentialRejected:
    return CredentialRejected("m", reason=reason)


@pytest.mark.parametrize("reason", [Reason.CREDENTIAL_REJECTED, Reason.APP_NOT_INSTALLED, Reason.OWNER_MISMATCH])
async def test_the_same_credential_is_not_tried_twice_and_its_connection_is_validated_again(
    world: World, reason: Reason
) -> None:
    world.add(secret_object(), validated_connection())
    attempts = 0

    async def work() -> Outcome:
        nonlocal attempts
        attempts += 1
        await world.connections.for_object(world.objects, "main", await known(world))
        raise rejected(reason)

    with pytest.raises(Terminal) as refused:
        await world.connections.with_fresh_credential(world.objects, "main", work)
    assert (refused.value.reason, attempts) == (reason, 1)
    assert [(event.reason, event.name) for event in world.bus.published] == [("revalidate", "main")]


async def test_several_objects_rejected_with_a_replaced_credential_are_each_tried_with_the_new_one(
    world: World,
) -> None:
    world.add(secret_object(), validated_connection())
    before = await known(world)
    in_use, replaced = asyncio.Semaphore(0), asyncio.Event()

    async def rotated_meanwhile() -> Outcome:
        opened = await world.connections.for_object(world.objects, "main", before)
        if opened.secret_version == before.secret:
            in_use.release()
            await replaced.wait()
            raise rejected()
        return Ready()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(world.connections.with_fresh_credential(world.objects, "main", rotated_meanwhile))
            for _ in range(3)
        ]
        for _ in tasks:
            await in_use.acquire()
        world.kcp.edit("secrets", "credential", {"metadata": {"labels": {"rotated": "yes"}}}, namespace="default")
        replaced.set()
    assert all(isinstance(task.result(), Ready) for task in tasks)
    assert world.bus.published == []


async def test_another_refusal_than_of_the_credential_is_passed_on(world: World) -> None:
    world.add(secret_object(), validated_connection())

    async def forbidden() -> Outcome:
        await world.connections.for_object(world.objects, "main", Versions())
        raise Terminal("MissingScope", "403")

    with pytest.raises(Terminal) as refused:
        await world.connections.with_fresh_credential(world.objects, "main", forbidden)
    assert refused.value.reason == "MissingScope"
    assert world.bus.published == []


async def test_a_workspace_with_thousands_of_connections_does_not_close_those_of_another(world: World) -> None:
    world.add(secret_object(), validated_connection())
    for number in range(3000):
        world.add(validated_connection(f"many-{number}"))
    other = workspace("other")
    world.kcp.add(secret_object(), other.cluster)
    world.kcp.add(validated_connection(), other.cluster)
    theirs = world.kcp.objects(other)
    versions = Versions(connection="0", secret="0")
    opened = await world.connections.for_object(theirs, "main", versions)
    for number in range(3000):
        await world.connections.for_object(world.objects, f"many-{number}", versions)
    assert await world.connections.for_object(theirs, "main", versions) is opened


# ---- validated


def validated(**status: Any) -> JsonObject:
    raw = validated_connection()
    return raw | {"status": raw["status"] | status}


NOT_VALIDATED = {
    "never looked at": connection_object(),
    "edited since": {**validated_connection(), "metadata": {"name": "main", "generation": 2}},
    "refused": validated(conditions=[condition("Validated", "False", "ValidationFailed", "bad token")]),
    "on its way out": {
        **validated_connection(),
        "metadata": {"name": "main", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]},
    },
}


@pytest.mark.parametrize("raw", NOT_VALIDATED.values(), ids=NOT_VALIDATED)
def test_a_connection_that_is_not_validated_is_waited_for(raw: JsonObject) -> None:
    with pytest.raises(NotReady) as waiting:
        require_validated(parse_connection(raw))
    assert waiting.value.reason == "ConnectionNotReady"


def test_what_is_wrong_with_the_connection_is_told_from_its_ready() -> None:
    conditions = [
        condition("Ready", "False", "CredentialRejected", "the host answered 401"),
        condition("Validated", "False", "ValidationFailed", "m"),
    ]
    with pytest.raises(NotReady) as waiting:
        require_validated(parse_connection(validated(conditions=conditions)))
    assert "CredentialRejected: the host answered 401" in waiting.value.message


def test_a_validated_connection_will_do() -> None:
    require_validated(parse_connection(validated_connection()))


async def test_another_key_of_the_same_secret_is_another_principal(world: World) -> None:
    world.add(
        secret_object(a="of alice", b="of bob"), validated_connection(secretRef={"name": "credential", "key": "a"})
    )
    await world.connections.for_object(world.objects, "main", await known(world))
    world.kcp.edit("connections", "main", {"spec": {"secretRef": {"name": "credential", "key": "b"}}})
    await world.connections.for_object(world.objects, "main", await known(world))
    alice, bob = world.opened
    assert alice.credential_key != bob.credential_key
    assert alice.credential_key[2] == bob.credential_key[2]


# ---- whose repositories a session is for


def app_secret(**more: str) -> JsonObject:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return secret_object(githubAppID="1", githubAppPrivateKey=pem, **more)


def installed(target: HostTarget) -> str:
    assert isinstance(target.credential, AppSecret)
    return target.credential.owner


async def test_an_app_acts_for_each_owner_by_a_session_of_its_own_and_a_token_by_one_for_all(world: World) -> None:
    world.add(app_secret(), validated_connection(type="github-app"))
    versions = await known(world)
    for owner in ("", "octocat", "Other", "other"):
        await world.connections.for_object(world.objects, "main", versions, owner=owner)
    acme, same, other = world.opened
    assert [installed(target) for target in world.opened] == ["octocat", "octocat", "Other"]
    assert acme.credential_key == same.credential_key != other.credential_key

    world.add(secret_object("pat"), validated_connection("pat", secretRef={"name": "pat"}))
    for owner in ("", "other"):
        await world.connections.for_object(world.objects, "pat", Versions(), owner=owner)
    assert world.opened[-2] == world.opened[-1]


async def test_an_installation_that_the_secret_names_acts_for_no_other_owner(world: World) -> None:
    world.add(app_secret(githubAppInstallationID="7"), validated_connection(type="github-app"))
    with pytest.raises(Terminal, match="remove githubAppInstallationID") as refused:
        await world.connections.for_object(world.objects, "main", await known(world), owner="other")
    assert refused.value.reason == "OwnerMismatch"
