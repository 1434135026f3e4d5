"""The gauges of runnable and waiting messages: pure, and of an engine on a real NATS."""

from __future__ import annotations

from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from codecommon.api.repository import Repository
from codecommon.api.results import Outcome, Retryable
from codecommon.controller.backlog import Backlog
from codecommon.controller.context import ReconcileContext
from codecommon.controller.engine import Timing
from codecommon.messaging.bus import Bus, ConsumerState
from codecommon.testing.builders import event_for
from codecommon.testing.engine import SERVICE, Calls, Gate, is_fine, put, until, working
from codecommon.testing.objects import InMemoryKcp

BUSY = ConsumerState(pending=3, has_idle_reader=False)
IDLE = ConsumerState(pending=0, has_idle_reader=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(consumer: str) -> dict[str, float | None]:
    values = {
        state: REGISTRY.get_sample_value("code_consumer_messages", {"consumer": consumer, "state": state})
        for state in ("running", "due", "waiting")
    }
    return values | {"pending": REGISTRY.get_sample_value("code_consumer_pending_messages", {"consumer": consumer})}


def test_what_waits_for_a_time_is_not_due_before_it() -> None:
    clock = Clock()
    backlog = Backlog("one", clock)
    backlog.put_back(1, 60, helps=False)
    backlog.put_back(2, 5, helps=False)
    backlog.report(BUSY, 4)
    assert shown("one") == {"pending": 3, "running": 4, "due": 0, "waiting": 2}
    clock.now += 5
    backlog.report(BUSY, 0)
    assert shown("one") == {"pending": 3, "running": 0, "due": 1, "waiting": 1}


def test_a_message_that_another_replica_could_work_on_is_due_at_once() -> None:
    clock = Clock()
    backlog = Backlog("two", clock)
    backlog.put_back(1, 20, helps=True)
    backlog.report(IDLE, 0)
    assert shown("two")["due"] == 1
    clock.now += 20
    backlog.report(IDLE, 0)
    assert shown("two")["due"] == 0


def test_what_was_taken_again_here_or_elsewhere_is_forgotten() -> None:
    clock = Clock()
    backlog = Backlog("three", clock)
    for sequence in (1, 2):
        backlog.put_back(sequence, 5, helps=False)
    backlog.taken(1)
    clock.now += 5
    backlog.report(BUSY, 0)
    assert shown("three")["due"] == 1
    # With a request open, the server has delivered whatever was due.
    backlog.report(IDLE, 0)
    assert shown("three") == {"pending": 0, "running": 0, "due": 0, "waiting": 0}


def test_while_nats_does_not_answer_only_what_is_known_here_is_told() -> None:
    backlog = Backlog("four", Clock())
    backlog.report(None, 0)
    backlog.report(BUSY, 1)
    backlog.put_back(1, 5, helps=False)
    for _ in range(2):
        backlog.report(None, 2)
        assert shown("four") == {"pending": None, "running": 2, "due": 0, "waiting": 1}
    backlog.report(BUSY, 2)
    assert shown("four")["pending"] == 3


def test_a_million_parked_messages_take_no_more_memory_than_the_bound() -> None:
    backlog = Backlog("five", Clock(), most=10)
    for sequence in range(1000):
        backlog.put_back(sequence, 5, helps=False)
    backlog.report(BUSY, 0)
    assert shown("five")["waiting"] == 10


@pytest.mark.nats
async def test_an_engine_tells_limited_tenants_from_a_queue_that_grows(bus: Bus, kcp: InMemoryKcp) -> None:
    gate = Gate()

    async def by_name(ctx: ReconcileContext[Repository]) -> Outcome:
        if ctx.object.name.startswith("limited"):
            raise Retryable("RateLimited", "m", after=timedelta(hours=1))
        if ctx.object.name.startswith("held"):
            return await gate(ctx)
        return await is_fine(ctx)

    timing = Timing(fetch=0.1, renew=0.1, report=0.02)
    async with working(bus, kcp, Calls(by_name), max_in_flight=2, max_per_workspace=16, timing=timing):
        for number in range(5):
            await bus.publish(event_for(put(kcp, f"limited{number}")))
        await until(lambda: shown(SERVICE) == {"pending": 0, "running": 0, "due": 0, "waiting": 5})
        # The server counts those as not acknowledged, like what is at work.
        assert (await bus.js.consumer_info("CODE_EVENTS", SERVICE)).num_ack_pending == 5
        for number in range(2):
            await bus.publish(event_for(put(kcp, f"held{number}")))
        await until(lambda: shown(SERVICE)["running"] == 2)
        for number in range(7):
            await bus.publish(event_for(put(kcp, f"queued{number}")))
        await until(lambda: shown(SERVICE) == {"pending": 7, "running": 2, "due": 0, "waiting": 5})
        gate.opened.set()
        await until(lambda: shown(SERVICE) == {"pending": 0, "running": 0, "due": 0, "waiting": 5})


@pytest.mark.nats
async def test_what_waits_for_its_share_of_a_replica_counts_as_work_for_another(bus: Bus, kcp: InMemoryKcp) -> None:
    gate = Gate()
    timing = Timing(fetch=0.1, renew=0.1, report=0.02)
    async with working(bus, kcp, Calls(gate), max_in_flight=8, max_per_workspace=1, timing=timing):
        for number in range(3):
            await bus.publish(event_for(put(kcp, f"r{number}")))
        # What comes back too early is put back again, so for moments it is taken.
        await until(lambda: shown(SERVICE)["due"] == 2)
        gate.opened.set()
        await until(lambda: shown(SERVICE) == {"pending": 0, "running": 0, "due": 0, "waiting": 0})
