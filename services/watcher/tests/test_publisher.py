"""Publishing to a real nats-server that stops and starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from codecommon.messaging.bus import EVENTS_STREAM, Bus, BusUnavailable
from codecommon.messaging.events import ObjectEvent
from codecommon.process.settings import NatsSettings
from devstack.nats import NatsServer
from watcher.publisher import MOST_COPY_BYTES, Publisher

pytestmark = pytest.mark.nats


def event(name: str, version: int = 1) -> ObjectEvent:
    return ObjectEvent(
        resource="repositories",
        cluster="c1",
        name=name,
        uid=f"uid-{name}",
        generation=version,
        resource_version=str(version),
        deleting=False,
        reason="changed",
        endpoint="https://kcp/services/apiexport/p/e",
    )


@asynccontextmanager
async def running(publisher: Publisher) -> AsyncIterator[None]:
    task = asyncio.create_task(publisher.run())
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def drained(publisher: Publisher, seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while publisher.pending:
            await asyncio.sleep(0.005)


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with Bus.connect(NatsSettings(url=(nats_server.url,))) as connected:
        await connected.declare()
        yield connected


async def stored(bus: Bus, name: str) -> ObjectEvent:
    message = await bus.js.get_last_msg(EVENTS_STREAM, event(name).subject)
    assert message.data is not None
    return ObjectEvent.decode(message.data)


class Gate:
    """A bus whose publishes wait until ``open`` is set, and fail while ``down``."""

    def __init__(self) -> None:
        self.sent: list[ObjectEvent] = []
        self.failed = 0
        self.under_way: list[str] = []
        self.most_at_once = 0
        self.open = asyncio.Event()
        self.down = False

    async def publish(self, event: ObjectEvent) -> None:
        assert event.subject not in self.under_way, "two publishes of one subject at once"
        self.under_way.append(event.subject)
        self.most_at_once = max(self.most_at_once, len(self.under_way))
        try:
            await self.open.wait()
            if self.down:
                self.failed += 1
                raise BusUnavailable("TimeoutError")
            self.sent.append(event)
        finally:
            self.under_way.remove(event.subject)


async def test_events_are_stored_under_their_subject(bus: Bus) -> None:
    publisher = Publisher(bus, 8)
    async with running(publisher):
        for number in range(100):
            publisher.enqueue(event(f"repo-{number}", 5))
        await drained(publisher)
    assert await stored(bus, "repo-42") == event("repo-42", 5)
    assert (await bus.js.stream_info(EVENTS_STREAM)).state.messages == 100


async def test_a_server_that_is_away_loses_no_event_and_gets_the_newest(bus: Bus, nats_server: NatsServer) -> None:
    publisher = Publisher(bus, 8)
    async with running(publisher):
        publisher.enqueue(event("before"))
        await drained(publisher)
        await nats_server.kill()
        for version in range(1, 4):
            for number in range(50):
                publisher.enqueue(event(f"repo-{number}", version))
        assert publisher.pending == 50
        await nats_server.start()
        await drained(publisher, 30)
    for number in range(50):
        assert (await stored(bus, f"repo-{number}")).resource_version == "3"
    assert (await stored(bus, "before")).resource_version == "1"


async def test_a_subject_has_one_publish_at_a_time_and_then_the_newest_event() -> None:
    gate = Gate()
    publisher = Publisher(gate, 8)
    async with running(publisher):
        publisher.enqueue(event("repo", 1))
        async with asyncio.timeout(5):
            while not gate.under_way:
                await asyncio.sleep(0)
        for version in (2, 3, 4):
            publisher.enqueue(event("repo", version))
            # The other workers are idle: they would take it here.
            await asyncio.sleep(0)
        gate.open.set()
        await drained(publisher)
    assert [sent.resource_version for sent in gate.sent] == ["1", "4"]


async def test_a_retry_sends_the_newest_event() -> None:
    gate = Gate()
    gate.down = True
    gate.open.set()
    publisher = Publisher(gate, 8)
    async with running(publisher):
        publisher.enqueue(event("repo", 1))
        async with asyncio.timeout(5):
            while not gate.failed:
                await asyncio.sleep(0)
        publisher.enqueue(event("repo", 2))
        gate.down = False
        await drained(publisher)
    assert [sent.resource_version for sent in gate.sent] == ["2"]


async def test_publishes_at_a_time_are_bounded() -> None:
    gate = Gate()
    publisher = Publisher(gate, 4)
    async with running(publisher):
        for number in range(20):
            publisher.enqueue(event(f"repo-{number}"))
        async with asyncio.timeout(5):
            while len(gate.under_way) < 4:
                await asyncio.sleep(0)
        gate.open.set()
        await drained(publisher)
    assert gate.most_at_once == 4
    assert len(gate.sent) == 20


async def test_what_is_not_acknowledged_when_it_stops_is_published_by_the_next_run() -> None:
    gate = Gate()
    publisher = Publisher(gate, 2)
    async with running(publisher):
        for number in range(5):
            publisher.enqueue(event(f"repo-{number}"))
        async with asyncio.timeout(5):
            while len(gate.under_way) < 2:
                await asyncio.sleep(0)
    assert publisher.pending == 5
    gate.open.set()
    async with running(publisher):
        await drained(publisher)
    assert {sent.name for sent in gate.sent} == {f"repo-{number}" for number in range(5)}


async def test_what_is_discarded_is_not_published() -> None:
    gate = Gate()
    gate.open.set()
    publisher = Publisher(gate, 2)
    publisher.enqueue(event("old"))
    publisher.discard()
    assert publisher.pending == 0
    publisher.enqueue(event("new"))
    async with running(publisher):
        await drained(publisher)
    assert [sent.name for sent in gate.sent] == ["new"]


async def test_the_copies_that_wait_for_nats_are_bounded_and_later_events_go_without() -> None:
    gate = Gate()
    gate.down = True
    publisher = Publisher(gate, 1)
    copy = b"x" * (32 << 10)
    fit = MOST_COPY_BYTES // len(copy)
    for version in (1, 2):
        for number in range(fit + 2):
            publisher.enqueue(with_copy(event(f"repo-{number}", version), copy))
    gate.down = False
    gate.open.set()
    async with running(publisher):
        await drained(publisher)
    assert [bool(sent.copy) for sent in gate.sent] == [True] * fit + [False] * 2
    assert all((sent.seen_at is not None) is bool(sent.copy) for sent in gate.sent)
    # What was published makes room again, and so does what is dropped.
    for _ in range(2):
        for number in range(fit):
            publisher.enqueue(with_copy(event(f"again-{number}"), copy))
        publisher.discard()
    publisher.enqueue(with_copy(event("last"), copy))
    async with running(publisher):
        await drained(publisher)
    assert gate.sent[-1].copy


def with_copy(event: ObjectEvent, copy: bytes) -> ObjectEvent:
    return replace(event, copy=copy, seen_at=datetime.now(UTC))


async def test_what_is_pending_of_a_dropped_cluster_is_not_published_nor_tried_again() -> None:
    gate = Gate()
    publisher = Publisher(gate, 1)
    async with running(publisher):
        publisher.enqueue(event("under-way"))
        async with asyncio.timeout(5):
            while not gate.under_way:
                await asyncio.sleep(0)
        publisher.enqueue(event("waits"))
        publisher.enqueue(replace(event("of-another"), cluster="c2"))
        publisher.drop("c1")
        publisher.enqueue(event("waits", 2))
        gate.down = True
        gate.open.set()
        async with asyncio.timeout(5):
            while gate.failed < 2:
                await asyncio.sleep(0)
        gate.down = False
        await drained(publisher)
    assert [(sent.cluster, sent.name, sent.generation) for sent in gate.sent] == [
        ("c1", "waits", 2),
        ("c2", "of-another", 1),
    ]


async def test_an_event_that_was_dropped_while_it_was_published_is_done() -> None:
    gate = Gate()
    publisher = Publisher(gate, 1)
    async with running(publisher):
        publisher.enqueue(event("under-way"))
        async with asyncio.timeout(5):
            while not gate.under_way:
                await asyncio.sleep(0)
        publisher.drop("c1")
        gate.open.set()
        await drained(publisher)
    assert [sent.name for sent in gate.sent] == ["under-way"]


@pytest.mark.parametrize("unavailable", [False, True], ids=["with its answer", "with an error"])
async def test_a_cancellation_that_the_client_swallows_still_ends_the_run(unavailable: bool) -> None:
    under_way = asyncio.Event()

    class Swallowing:
        async def publish(self, event: ObjectEvent) -> None:
            under_way.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if unavailable:
                    raise BusUnavailable from None

    publisher = Publisher(Swallowing(), 2)
    publisher.enqueue(event("repo"))
    task = asyncio.create_task(publisher.run())
    async with asyncio.timeout(5):
        await under_way.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_each_event_carries_a_producer_span_of_its_own(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    publisher = Publisher(bus, 8)
    async with running(publisher):
        publisher.enqueue(event("one"))
        publisher.enqueue(event("two"))
        await drained(publisher)
    carried = {name: await traceparent(bus, name) for name in ("one", "two")}
    spans = {span.attributes["kedge.name"]: span for span in exporter.get_finished_spans() if span.attributes}
    for name, header in carried.items():
        context = spans[name].get_span_context()
        assert context is not None
        assert header.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
        assert spans[name].kind is trace.SpanKind.PRODUCER
    assert carried["one"] != carried["two"]


async def traceparent(bus: Bus, name: str) -> str:
    message = await bus.js.get_last_msg(EVENTS_STREAM, event(name).subject)
    assert message.headers is not None
    return message.headers["traceparent"]
