"""Each user of the table on a real nats-server: its whole work is possible, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import DEAD_STREAM, EVENTS_STREAM, Bus, NotDeclared
from codecommon.messaging.events import Versions
from codecommon.messaging.permissions import inbox_prefix, permissions
from codecommon.messaging.records import BucketRecords
from codecommon.messaging.topology import (
    BUCKETS,
    BUNDLES,
    CRAWLER,
    DOCTOR,
    DURABLES,
    INIT,
    LANES,
    OBJECT_STORES,
    STREAMS,
    USERS,
)
from codecommon.process.secrets import SecretValue
from codecommon.process.service import CannotRun
from codecommon.process.settings import NatsSettings
from codecommon.testing.builders import event_for, repository_object
from codecommon.testing.engine import until
from codecommon.testing.objects import InMemoryKcp
from devstack.nats import NatsServer

pytestmark = pytest.mark.nats

CHANGED = event_for(InMemoryKcp().add(repository_object()))
REVALIDATE = replace(CHANGED, resource="connections", reason="revalidate", versions=Versions())
SERVICES = [name for name in USERS if name not in (INIT, DOCTOR)]
CONSUMERS = [name for name in SERVICES if USERS[name].durables]


class Asked:
    """A connection as one user. ``refusals``: what the server did not let it do."""

    def __init__(self, bus: Bus, refusals: list[str]) -> None:
        self.bus = bus
        self.refusals = refusals

    async def allowed(self, subject: str) -> bool:
        """Whether the user may publish to the subject; the message itself means nothing to anybody."""
        before = len(self.refusals)
        await self.bus.nc.publish(
            subject, b"", reply=f"{inbox_prefix('nobody')}.x" if subject.startswith("$JS.API") else ""
        )
        await self._answered()
        return len(self.refusals) == before

    async def hears(self, subject: str) -> bool:
        before = len(self.refusals)
        subscription = await self.bus.nc.subscribe(subject)
        await self._answered()
        if allowed := len(self.refusals) == before:
            await subscription.unsubscribe()
        return allowed

    async def _answered(self) -> None:
        """The server answers in order, so its refusal comes before this. The client's first PING may overtake what it sends."""
        await self.bus.nc.flush()
        await self.bus.nc.flush()


AsUser = Callable[[str], Awaitable[Asked]]


@asynccontextmanager
async def asking(server: NatsServer, user: str) -> AsyncIterator[Asked]:
    refusals: list[str] = []
    async with Bus.connect(server.settings(), user) as bus:

        async def note(error: Exception) -> None:
            refusals.append(str(error))

        bus.nc._error_cb = note  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
        yield Asked(bus, refusals)


@pytest.fixture(name="as_user")
async def _as_user(nats_server: NatsServer, bus: Bus) -> AsyncIterator[AsUser]:
    """Connects as a user, while the streams are there."""
    async with AsyncExitStack() as stack:

        async def connect(user: str) -> Asked:
            return await stack.enter_async_context(asking(nats_server, user))

        yield connect


# ---- what each may


@pytest.mark.parametrize("user", SERVICES)
async def test_a_service_finds_everything_it_needs(as_user: AsUser, user: str) -> None:
    asked = await as_user(user)
    async with asyncio.timeout(20):
        await asked.bus.require(user)
    assert asked.refusals == []


async def test_the_watcher_publishes_changes_of_every_kind_and_purges_them(as_user: AsUser) -> None:
    watcher = await as_user("watcher")
    await watcher.bus.publish(CHANGED)
    await watcher.bus.publish(replace(CHANGED, reason="resync"))
    await watcher.bus.publish(replace(CHANGED, resource="connections", reason="crawl"))
    assert (await watcher.bus.clusters_with_messages()).keys() == {"c1"}
    assert await watcher.bus.endpoint_of(CHANGED.subject) == CHANGED.endpoint
    await watcher.bus.purge("c1", await watcher.bus.last_sequence())
    assert await watcher.bus.clusters_with_messages() == {}
    assert watcher.refusals == []


@pytest.mark.parametrize("service", CONSUMERS)
async def test_a_service_reads_answers_and_buries_the_messages_of_its_durables(
    as_user: AsUser, bus: Bus, service: str
) -> None:
    asked = await as_user(service)
    for lane in LANES:
        for name in {bus_module.durable_name(service, lane)}:
            for filters in DURABLES[name].filters:
                await bus.js.publish(f"{filters.removesuffix('>')}c1.site", b"not an event")
                subscription = await asked.bus.subscribe(service, lane)
                msg = await bus_module.fetch_one(subscription, 5)
                assert msg is not None
                assert await asked.bus.is_stored(msg)
                await msg.in_progress()
                await msg.nak()
                again = await bus_module.fetch_one(subscription, 5)
                assert again is not None
                assert again.metadata.num_delivered == 2
                await asked.bus.bury(again, "a test")
    await until(lambda: is_empty(bus))
    assert not await asked.bus.has_waiting_events(service)
    assert (await bus.js.stream_info(DEAD_STREAM)).state.messages > 0
    assert asked.refusals == []


async def is_empty(bus: Bus) -> bool:
    return (await bus.js.stream_info(EVENTS_STREAM)).state.messages == 0


@pytest.mark.parametrize(("user", "bucket"), [(u, b) for u in SERVICES for b in USERS[u].buckets])
async def test_a_service_reads_and_writes_its_buckets(as_user: AsUser, user: str, bucket: str) -> None:
    asked = await as_user(user)
    records = await BucketRecords.open(asked.bus, bucket)
    assert await records.create("key", b"1")
    record = await records.get("key")
    assert record is not None
    assert await records.update("key", b"2", record.revision)
    await records.put("key", b"3")
    record = await records.get("key")
    assert record is not None
    if BUCKETS[bucket].removes:
        await records.remove("key", record.revision)
    else:
        await (await asked.bus.bucket(bucket)).delete("key", last=record.revision)
    assert await records.get("key") is None
    assert asked.refusals == []


@pytest.mark.parametrize("service", CONSUMERS)
async def test_a_service_asks_for_a_connection_to_be_validated_again(as_user: AsUser, service: str) -> None:
    asked = await as_user(service)
    await asked.bus.publish(REVALIDATE)
    assert asked.refusals == []


async def test_the_crawler_publishes_findings_and_jobs(as_user: AsUser) -> None:
    crawler = await as_user(CRAWLER)
    await crawler.bus.publish(replace(CHANGED, reason="found"))
    await crawler.bus.publish(replace(REVALIDATE, reason="found"))
    assert await crawler.bus.publish_if_none(replace(REVALIDATE, reason="crawl", owner="acme"))
    assert crawler.refusals == []


async def test_repository_svc_asks_for_crawls(as_user: AsUser) -> None:
    service = await as_user("repository-svc")
    await service.bus.publish(replace(REVALIDATE, reason="crawl-request"))
    assert service.refusals == []


async def test_init_declares_everything_and_again(as_user: AsUser) -> None:
    init = await as_user(INIT)
    await init.bus.declare()
    assert await init.bus.lacks(USERS[INIT]) == []
    assert init.refusals == []


async def test_an_object_store_of_the_table_can_be_used_by_whom_the_table_names(as_user: AsUser) -> None:
    asked = await as_user("gateway")
    await asked.bus.require("gateway")
    store = await asked.bus.object_store(BUNDLES)
    content = bytes(range(256)) * 2000
    await store.put("bundle", content)
    assert (await store.get("bundle")).data == content
    await store.put("bundle", b"newer")
    assert (await store.get("bundle")).data == b"newer"
    await store.delete("bundle")
    assert asked.refusals == []

    other = await as_user("access-svc")
    assert not await other.allowed(f"$O.{BUNDLES}.M.x")
    assert not await other.allowed(f"$JS.API.CONSUMER.CREATE.OBJ_{BUNDLES}")


# ---- what none may


@pytest.mark.parametrize("user", SERVICES)
async def test_nobody_publishes_what_another_publishes(as_user: AsUser, user: str) -> None:
    asked = await as_user(user)
    own = USERS[user].publishes
    for other in SERVICES:
        for subject in USERS[other].publishes:
            if subject not in own:
                example = subject.replace("*", "x")
                assert await asked.allowed(example) == any(_covers(mine, example) for mine in own), example
    assert not await asked.allowed("code.dead.anything")


def _covers(pattern: str, subject: str) -> bool:
    tokens, wanted = subject.split("."), pattern.split(".")
    return len(tokens) == len(wanted) and all(w in ("*", t) for w, t in zip(wanted, tokens, strict=True))


@pytest.mark.parametrize("service", ["repository-svc", "connection-svc", "access-svc"])
async def test_a_reconciling_service_publishes_no_change_of_any_object(as_user: AsUser, service: str) -> None:
    asked = await as_user(service)
    for subject in (CHANGED.subject, "code.events.connections.c1.acme", "code.resync.repositories.c1.site"):
        assert not await asked.allowed(subject)


@pytest.mark.parametrize("user", USERS)
async def test_nobody_reads_the_durables_or_buckets_of_another(as_user: AsUser, user: str) -> None:
    asked = await as_user(user)
    row = USERS[user]
    for durable in DURABLES.values():
        for subject in (
            f"$JS.API.CONSUMER.MSG.NEXT.{durable.stream}.{durable.name}",
            f"$JS.ACK.{durable.stream}.{durable.name}.1.1.1.1.0",
            *(f"$JS.API.DIRECT.GET.{durable.stream}.{f.removesuffix('>')}c1.site" for f in durable.filters),
        ):
            assert await asked.allowed(subject) == (durable.name in row.durables), subject
    for bucket in BUCKETS:
        for subject in (f"$KV.{bucket}.key", f"$JS.API.STREAM.MSG.GET.KV_{bucket}"):
            assert await asked.allowed(subject) == (bucket in row.buckets), subject


@pytest.mark.parametrize("user", USERS)
async def test_nobody_deletes_and_init_alone_declares(as_user: AsUser, bus: Bus, user: str) -> None:
    asked = await as_user(user)
    declares = USERS[user].declares
    streams = [*STREAMS, *(f"KV_{bucket}" for bucket in BUCKETS)]
    for stream in streams:
        assert not await asked.allowed(f"$JS.API.STREAM.DELETE.{stream}")
        assert not await asked.allowed(f"$JS.API.STREAM.MSG.DELETE.{stream}")
        for verb in ("CREATE", "UPDATE"):
            assert await asked.allowed(f"$JS.API.STREAM.{verb}.{stream}") == declares
    for durable in DURABLES.values():
        at = f"{durable.stream}.{durable.name}"
        assert not await asked.allowed(f"$JS.API.CONSUMER.DELETE.{at}")
        assert await asked.allowed(f"$JS.API.CONSUMER.DURABLE.CREATE.{at}") == declares
    for subject in ("STREAM.CREATE.OTHER", "STREAM.LIST", f"CONSUMER.CREATE.{EVENTS_STREAM}"):
        assert not await asked.allowed(f"$JS.API.{subject}")
    for stream in streams:
        await bus.js.stream_info(stream)


@pytest.mark.parametrize("user", USERS)
async def test_nobody_hears_more_than_its_own_inbox(as_user: AsUser, user: str) -> None:
    asked = await as_user(user)
    for other in USERS:
        assert await asked.hears(f"{inbox_prefix(other)}.>") == (other == user)
    for name, bucket in BUCKETS.items():
        if bucket.heard is not None:
            assert await asked.hears(f"$KV.{name}.{bucket.heard}") == (name in USERS[user].buckets)
    for subject in (">", "_INBOX.>", "code.>", "$KV.>", "$JS.>", "$SYS.>"):
        assert not await asked.hears(subject)


async def test_without_credentials_nobody_gets_in(nats_server: NatsServer) -> None:
    for settings in (
        NatsSettings(url=(nats_server.address,)),
        NatsSettings(url=(nats_server.address,), user="watcher", password=SecretValue("wrong")),
    ):
        async with asyncio.timeout(20):
            with pytest.raises(CannotRun, match="NATS refuses the credentials"):
                async with Bus.connect(settings, "watcher"):
                    pass


# ---- what is missing


async def test_a_service_waits_for_what_is_missing_and_says_once_what_to_do(
    nats_server: NatsServer, bus: Bus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "_CHECK_EVERY_SECONDS", 0.01)
    await bus.js.delete_consumer(EVENTS_STREAM, "repository-svc-resync")
    await bus.js.delete_key_value(bus_module.LOCKS)
    async with Bus.connect(nats_server.settings(), "repository-svc") as service:
        waiting = asyncio.create_task(service.require("repository-svc"))
        await until(lambda: service.complaint is not None)
        said = "NATS has no bucket CODE_LOCKS, no durable repository-svc-resync; run code-provider init"
        assert service.complaint == said
        with pytest.raises(NotDeclared, match=r"^NATS has no bucket CODE_LOCKS; run code-provider init$"):
            await service.bucket(bus_module.LOCKS)
        await bus.declare()
        async with asyncio.timeout(20):
            await waiting
        assert service.complaint is None
    assert sum(record.message == said for record in caplog.records) == 1


async def test_without_the_stream_its_durables_are_not_named_one_by_one(nats_server: NatsServer, bus: Bus) -> None:
    await bus.js.delete_stream(EVENTS_STREAM)
    async with Bus.connect(nats_server.settings(), "access-svc") as service:
        assert await service.lacks(USERS["access-svc"]) == ["stream CODE_EVENTS"]
    await until(lambda: declared(bus))


async def declared(bus: Bus) -> bool:
    try:
        await bus.declare()
    except NatsError:
        return False
    return True


async def test_a_user_that_lacks_a_right_is_told_so_and_not_left_waiting(nats_server: NatsServer, bus: Bus) -> None:
    async with Bus.connect(nats_server.settings(), "gateway") as service:
        service.js = JetStreamContext(service.nc, timeout=0.5)
        with pytest.raises(
            CannotRun, match=r"NATS does not let this user use .*; write its users with code-provider nats-auth"
        ):
            await service.require("watcher")


# ---- the table


def test_every_service_of_the_table_has_a_row_and_every_durable_a_reader() -> None:
    read = {durable for row in USERS.values() for durable in row.durables}
    assert read == set(DURABLES)
    assert {bucket for row in USERS.values() for bucket in row.buckets} == set(BUCKETS)
    assert {store for row in USERS.values() for store in row.object_stores} == set(OBJECT_STORES)


def test_no_rule_covers_more_than_one_stream_or_bucket() -> None:
    for user in USERS:
        for subject in permissions(user)["publish"]["allow"]:
            assert subject not in (">", "code.>", "$JS.>", "$KV.>", "$O.>")
            if subject.startswith("$JS.API."):
                assert "*" not in subject
