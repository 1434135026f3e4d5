"""Streams, durables and buckets on a real nats-server, and what is published to them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from nats.aio.client import Client
from nats.js import api
from nats.js.errors import KeyWrongLastSequenceError

from codecommon.api.kinds import KINDS
from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import Bus, BusUnavailable
from codecommon.messaging.events import ObjectEvent, Versions
from codecommon.process.service import CannotRun
from codecommon.process.settings import NatsSettings
from codecommon.testing.builders import event_for, repository_object
from codecommon.testing.objects import InMemoryKcp
from devstack.nats import NatsServer

pytestmark = pytest.mark.nats

EVENT = event_for(InMemoryKcp().add(repository_object()))


async def messages(bus: Bus) -> int:
    return (await bus.js.stream_info(bus_module.EVENTS_STREAM)).state.messages


async def next_event(bus: Bus, service: str = "repository-svc") -> ObjectEvent:
    msg = await bus_module.fetch_one(await bus.subscribe(service, "events"), 2)
    assert msg is not None
    await msg.ack_sync()
    return ObjectEvent.decode(msg.data)


async def test_declaring_again_and_from_several_processes_changes_nothing(
    bus: Bus, nats_settings: NatsSettings
) -> None:
    await bus.publish(EVENT)
    async with Bus.connect(nats_settings) as second, asyncio.timeout(20):
        await asyncio.gather(bus.declare(), second.declare(), second.declare())
    assert await messages(bus) == 1


async def test_the_events_stream_keeps_one_message_per_object_and_lane_until_it_is_acked(bus: Bus) -> None:
    config = (await bus.js.stream_info(bus_module.EVENTS_STREAM)).config
    assert config.retention == api.RetentionPolicy.WORK_QUEUE
    assert (config.max_msgs_per_subject, config.storage) == (1, api.StorageType.FILE)


async def test_every_service_has_a_durable_per_lane_without_bounds(bus: Bus) -> None:
    for service in {kind.service for kind in KINDS.values() if kind.service is not None}:
        for durable in (service, f"{service}-resync"):
            config = (await bus.js.consumer_info(bus_module.EVENTS_STREAM, durable)).config
            assert (config.max_ack_pending, config.max_deliver) == (-1, -1)
            assert config.ack_policy == api.AckPolicy.EXPLICIT


async def test_buckets_outlive_a_restart_of_the_server(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        async with Bus.connect(NatsSettings(url=(server.url,))) as bus:
            await bus.declare()
        await server.restart()
        async with Bus.connect(NatsSettings(url=(server.url,))) as bus:
            for name in (bus_module.LOCKS, bus_module.LEASES, bus_module.POISON_MESSAGES):
                bucket = await bus.bucket(name)
                revision = await bucket.create("key", b"value")
                with pytest.raises(KeyWrongLastSequenceError):
                    await bucket.create("key", b"value")
                await bucket.update("key", b"newer", last=revision)


async def test_an_event_arrives_at_the_service_of_its_kind_as_it_was_published(bus: Bus) -> None:
    await bus.publish(EVENT)
    assert await next_event(bus) == EVENT
    assert await messages(bus) == 0


async def test_a_newer_event_replaces_an_older_one(bus: Bus) -> None:
    newer = replace(EVENT, resource_version="999")
    await bus.publish(EVENT)
    await bus.publish(newer)
    assert await messages(bus) == 1
    assert await next_event(bus) == newer


async def test_the_same_news_twice_is_stored_once(bus: Bus) -> None:
    await bus.publish(EVENT)
    await next_event(bus)
    await bus.publish(EVENT)
    assert await messages(bus) == 0


async def test_the_same_object_with_news_of_its_secret_is_stored_again(bus: Bus) -> None:
    await bus.publish(EVENT)
    await next_event(bus)
    await bus.publish(replace(EVENT, versions=Versions(secret="7")))
    assert await messages(bus) == 1


@pytest.mark.parametrize("reason", ["resync", "revalidate"])
async def test_turns_and_requests_are_stored_every_time(bus: Bus, reason: str) -> None:
    event = replace(EVENT, reason=reason)
    lane = await bus.subscribe("repository-svc", event.lane)
    for _ in range(2):
        await bus.publish(event)
        msg = await bus_module.fetch_one(lane, 2)
        assert msg is not None
        await msg.ack_sync()


async def test_a_resync_does_not_replace_a_change(bus: Bus) -> None:
    await bus.publish(EVENT)
    await bus.publish(replace(EVENT, reason="resync"))
    assert await messages(bus) == 2


async def test_an_event_that_no_service_takes_is_kept(bus: Bus) -> None:
    await bus.publish(replace(EVENT, resource="packages"))
    assert await messages(bus) == 1


async def test_a_purge_takes_one_cluster_up_to_a_sequence_and_what_was_put_back_with_it(bus: Bus) -> None:
    for name in ("put-back", "at-work", "waits"):
        await bus.publish(replace(EVENT, name=name, uid=name))
    await bus.publish(replace(EVENT, reason="resync"))
    await bus.publish(replace(EVENT, cluster="c2"))
    lane = await bus.subscribe("repository-svc", "events")
    put_back, at_work = [await bus_module.fetch_one(lane, 2) for _ in range(2)]
    assert put_back is not None
    assert at_work is not None
    await put_back.nak(delay=3600)
    until = await bus.last_sequence()
    assert await bus.is_stored(at_work)
    await bus.publish(replace(EVENT, name="later", uid="later"))
    await bus.purge("c1", until)
    info = await bus.js.stream_info(bus_module.EVENTS_STREAM, subjects_filter=">")
    assert {subject.split(".", 3)[3] for subject in info.state.subjects or ()} == {"c2.site", "c1.later"}
    assert (await bus.js.consumer_info(bus_module.EVENTS_STREAM, "repository-svc")).num_ack_pending == 0
    assert not await bus.is_stored(at_work)
    # Whoever had it answers, and that changes nothing.
    await at_work.nak()
    left = {(await next_event(bus)).name for _ in range(2)}
    assert left == {"site", "later"}
    assert await messages(bus) == 0


async def test_a_message_that_a_newer_event_has_replaced_is_not_stored_any_more(bus: Bus) -> None:
    await bus.publish(EVENT)
    msg = await bus_module.fetch_one(await bus.subscribe("repository-svc", "events"), 2)
    assert msg is not None
    assert await bus.is_stored(msg)
    await bus.publish(replace(EVENT, resource_version="999"))
    assert not await bus.is_stored(msg)


async def test_the_clusters_with_messages_and_the_endpoint_of_one(bus: Bus) -> None:
    assert await bus.clusters_with_messages() == {}
    await bus.publish(EVENT)
    await bus.publish(replace(EVENT, name="another"))
    turn = replace(EVENT, resource="connections", cluster="c2", reason="resync", name="a.b")
    await bus.publish(turn)
    found = await bus.clusters_with_messages()
    assert found["c2"] == turn.subject
    assert found.keys() == {"c1", "c2"}
    assert await bus.endpoint_of(found["c1"]) == EVENT.endpoint
    assert await bus.endpoint_of("code.events.repositories.c3.nobody") is None
    await bus.js.publish("code.events.repositories.c3.odd", b"not an event")
    assert await bus.endpoint_of("code.events.repositories.c3.odd") is None


async def test_nothing_to_fetch_is_none(bus: Bus) -> None:
    assert await bus_module.fetch_one(await bus.subscribe("repository-svc", "events"), 0.05) is None


async def test_events_that_nobody_has_fetched_are_known(bus: Bus) -> None:
    assert not await bus.has_waiting_events("repository-svc")
    await bus.publish(EVENT)
    assert await bus.has_waiting_events("repository-svc")
    assert not await bus.has_waiting_events("connection-svc")


@pytest.mark.slow
async def test_a_server_that_does_not_answer_is_reported_by_publish_and_ping(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server, Bus.connect(NatsSettings(url=(server.url,))) as bus:
        await bus.declare()
        await bus.ping()
        subscription = await bus.subscribe("repository-svc", "events")
        bus.js = bus.nc.jetstream(timeout=0.1)
        await server.stop()
        with pytest.raises(BusUnavailable):
            await bus.publish(EVENT)
        with pytest.raises(BusUnavailable):
            await bus.purge("c1", 1)
        assert await bus_module.fetch_one(subscription, 0.1) is None
        assert await bus.has_waiting_events("repository-svc")
        with pytest.raises(BusUnavailable):
            await bus.ping()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_a_connection_that_the_client_gives_up_ends_the_process(nats_settings: NatsSettings) -> None:
    """The server says so when a credential has expired; then the client does not connect again."""
    server = urlsplit(nats_settings.url[0])
    clients: list[asyncio.StreamWriter] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.append(writer)
        to_server = await asyncio.open_connection(server.hostname, server.port)
        await asyncio.gather(pass_on(reader, to_server[1]), pass_on(to_server[0], writer))

    between = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = between.sockets[0].getsockname()[1]
    async with (
        between,
        asyncio.timeout(20),
        Bus.connect(NatsSettings(url=(f"nats://{server.username}:{server.password}@127.0.0.1:{port}",))) as bus,
    ):
        await bus.ping()
        clients[0].write(b"-ERR 'User Authentication Expired'\r\n")
        with pytest.raises(CannotRun, match="NATS has closed the connection"):
            await bus.keep_open()


async def test_an_end_in_good_order_is_no_connection_given_up(nats_settings: NatsSettings) -> None:
    async with Bus.connect(nats_settings) as bus:
        keeping = asyncio.create_task(bus.keep_open())
        await bus.ping()
    assert not keeping.done()
    keeping.cancel()


async def test_a_stop_that_is_lost_with_an_attempt_to_connect_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began = asyncio.Event()

    async def connect(self: Client, **options: Any) -> None:
        began.set()
        # As wait_for() does before Python 3.12 where the attempt fails at the same moment.
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def connected() -> None:
        async with Bus.connect(NatsSettings()):
            raise AssertionError

    monkeypatch.setattr(Client, "connect", connect)
    connecting = asyncio.create_task(connected())
    await began.wait()
    connecting.cancel()
    ended, _ = await asyncio.wait({connecting}, timeout=20)
    assert ended
    assert connecting.cancelled()


@pytest.mark.slow
async def test_a_server_that_is_away_is_spoken_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with NatsServer(tmp_path) as server, Bus.connect(NatsSettings(url=(server.url,))) as bus:
        with caplog.at_level("DEBUG", "codecommon.messaging.bus"):
            await server.stop()
            async with asyncio.timeout(20):
                while sum("ConnectionRefused" in record.message for record in caplog.records) < 3:
                    await asyncio.sleep(0.05)
            await server.start()
            async with asyncio.timeout(20):
                while not bus.nc.is_connected:
                    await asyncio.sleep(0.05)
    refused = [record.levelname for record in caplog.records if "ConnectionRefused" in record.message]
    assert refused[:3] == ["WARNING", "DEBUG", "DEBUG"]
