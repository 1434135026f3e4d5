"""The engine when it is stopped, and when its NATS goes down and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from codecommon.api.repository import Repository
from codecommon.api.results import Outcome, Retryable
from codecommon.controller.context import ReconcileContext
from codecommon.controller.engine import Timing
from codecommon.controller.message_worker import WorkerTiming
from codecommon.messaging.bus import Bus
from codecommon.process.settings import NatsSettings
from codecommon.testing.builders import event_for
from codecommon.testing.engine import (
    BOUND_SECONDS,
    Calls,
    Gate,
    Handler,
    acked,
    deliver_again_after,
    is_fine,
    make_engine,
    only_one_is_queued,
    put,
    raising,
    stored,
    until,
    working,
)
from codecommon.testing.objects import InMemoryKcp
from devstack.nats import NatsServer

pytestmark = pytest.mark.nats


# ---- the end, and NATS


async def test_a_stop_finishes_what_is_in_flight(bus: Bus, kcp: InMemoryKcp) -> None:
    gate = Gate()
    calls = Calls(gate)
    await bus.publish(event_for(put(kcp)))
    stopping = asyncio.Event()
    task = asyncio.create_task(make_engine(bus, kcp, calls).run(stopping))
    await gate.entered.acquire()

    stopping.set()
    await bus.publish(event_for(put(kcp, "late")))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await asyncio.shield(task)
    gate.opened.set()
    async with asyncio.timeout(BOUND_SECONDS):
        await task

    assert stored(kcp)["status"]["repoID"] == "7"
    assert calls.names == ["c1/site"]
    # What came after the stop is left for another replica.
    await until(lambda: only_one_is_queued(bus))


@asynccontextmanager
async def nats_of_its_own(folder: Path) -> AsyncIterator[tuple[NatsServer, Bus]]:
    """A server that a test may stop, and a bus that gives up on it soon."""
    async with NatsServer(folder) as server, Bus.connect(NatsSettings(url=(server.url,))) as bus:
        await bus.declare()
        await deliver_again_after(bus, 1)
        bus.js = bus.nc.jetstream(timeout=0.2)
        yield server, bus


async def reconnected(bus: Bus) -> None:
    await until(lambda: bus.nc.is_connected)


@pytest.mark.parametrize("crash", [False, True], ids=["restart", "crash"])
async def test_a_restart_of_nats_ends_nothing(tmp_path: Path, kcp: InMemoryKcp, crash: bool) -> None:
    gate = Gate()
    failures = raising(Retryable("HostUnavailable", "m", after=timedelta(seconds=0.3)))

    async def by_name(ctx: ReconcileContext[Repository]) -> Outcome:
        handlers: dict[str, Handler] = {"held": gate, "retried": failures}
        return await handlers.get(ctx.object.name, is_fine)(ctx)

    calls = Calls(by_name)
    async with nats_of_its_own(tmp_path) as (server, bus):
        await bus.publish(event_for(put(kcp, "held")))
        await bus.publish(event_for(put(kcp, "retried")))
        async with working(
            bus, kcp, calls, timing=Timing(fetch=0.1, renew=0.1, worker=WorkerTiming(lost_after=5))
        ) as engine:
            await gate.entered.acquire()
            await until(lambda: engine.in_flight == 1)
            await (server.kill() if crash else server.stop())
            await server.start()
            await reconnected(bus)
            await bus.publish(event_for(put(kcp, "after")))
            await until(lambda: "c1/after" in calls.names)
            gate.opened.set()
            for name in ("held", "retried"):
                await until(lambda name=name: stored(kcp, name).get("status", {}).get("repoID") == "7")
            await until(lambda: acked(bus))


async def test_a_handler_that_ends_while_nats_is_down_does_not_end_the_process(
    tmp_path: Path, kcp: InMemoryKcp
) -> None:
    gate = Gate()
    failures = raising(Retryable("HostUnavailable", "m"))

    async def held_the_second_time(ctx: ReconcileContext[Repository]) -> Outcome:
        await failures(ctx)
        return await gate(ctx)

    calls = Calls(held_the_second_time)
    async with nats_of_its_own(tmp_path) as (server, bus):
        await bus.publish(event_for(put(kcp)))
        async with working(
            bus, kcp, calls, timing=Timing(fetch=0.1, renew=0.1, worker=WorkerTiming(lost_after=5))
        ) as engine:
            await gate.entered.acquire()
            await server.stop()
            gate.opened.set()
            await until(lambda: stored(kcp)["status"].get("repoID") == "7")
            await until(lambda: engine.in_flight == 0)
            await server.start()
            await reconnected(bus)
            await bus.publish(event_for(put(kcp, "after")))
            await until(lambda: "c1/after" in calls.names)
            await until(lambda: acked(bus))


async def test_every_handler_whose_lock_is_lost_is_cancelled_in_time_while_nats_hangs(
    tmp_path: Path, kcp: InMemoryKcp
) -> None:
    cancelled: list[str] = []

    async def hang(ctx: ReconcileContext[Repository]) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(ctx.object.name)
            raise
        raise AssertionError

    calls = Calls(hang)
    async with nats_of_its_own(tmp_path) as (server, bus):
        for n in range(48):
            await bus.publish(event_for(put(kcp, f"r{n}")))
        process = asyncio.create_task(
            make_engine(
                bus,
                kcp,
                calls,
                max_per_workspace=64,
                timing=Timing(fetch=0.1, renew=0.2, worker=WorkerTiming(lost_after=0.5)),
            ).run(asyncio.Event())
        )
        await until(lambda: calls.at_once == 48)
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(2):
                await until(lambda: len(cancelled) >= 48)
            process.cancel()
            await asyncio.gather(process, return_exceptions=True)
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
