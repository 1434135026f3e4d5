"""The engine with a real nats-server and kcp in memory: who works on what, and how much of it at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from codecommon.api.repository import Repository
from codecommon.api.results import NotReady, Outcome, Retryable
from codecommon.controller.conditions import condition
from codecommon.controller.context import ReconcileContext
from codecommon.controller.engine import Timing
from codecommon.controller.message_worker import WorkerTiming
from codecommon.githost.protocol import HostBusy
from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import Bus
from codecommon.process.settings import NatsSettings
from codecommon.testing.builders import event_for
from codecommon.testing.engine import (
    Calls,
    Gate,
    acked,
    deliver_again_after,
    delivered,
    drift_is_asked_for,
    is_fine,
    parked,
    put,
    raising,
    stored,
    until,
    working,
)
from codecommon.testing.objects import InMemoryKcp

pytestmark = pytest.mark.nats


# ---- one object, one worker


async def test_an_object_is_never_worked_on_twice_at_once_in_a_process(bus: Bus, kcp: InMemoryKcp) -> None:
    gate = Gate()
    calls = Calls(gate)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await gate.entered.acquire()
        await bus.publish(event_for(kcp.edit("repositories", "site", {"spec": {"description": "2"}})))
        await bus.publish(event_for(stored(kcp), reason="resync"))
        other = put(kcp, "other")
        await bus.publish(event_for(other))
        await until(lambda: "c1/other" in calls.names)
        gate.opened.set()
        await until(lambda: acked(bus))
        assert await delivered(bus) == 3, "what waits for its turn within a process is not put back"
    assert calls.most_at_once["c1/site"] == 1
    assert stored(kcp)["status"]["observedGeneration"] == 2


async def test_an_object_is_never_worked_on_twice_at_once_by_two_replicas(
    bus: Bus, kcp: InMemoryKcp, nats_settings: NatsSettings
) -> None:
    gate = Gate()
    calls = Calls(gate)
    names = [f"r{n}" for n in range(8)]
    async with Bus.connect(nats_settings) as second_bus, working(bus, kcp, calls), working(second_bus, kcp, calls):
        for name in names:
            await bus.publish(event_for(put(kcp, name)))
        for _ in names:
            await gate.entered.acquire()
        for name in names:
            await bus.publish(event_for(kcp.edit("repositories", name, {"spec": {"description": "new"}})))

        async def all_delivered() -> bool:
            return await delivered(bus) >= 2 * len(names)

        await until(all_delivered)
        gate.opened.set()
        await until(lambda: acked(bus))
    assert set(calls.most_at_once.values()) == {1}
    assert {stored(kcp, name)["status"]["observedGeneration"] for name in names} == {2}


async def test_a_lock_that_is_taken_costs_a_delivery_and_no_result(bus: Bus, kcp: InMemoryKcp) -> None:
    locks = await bus.bucket(bus_module.LOCKS)
    revision = await locks.create("repositories.c1.site", b"another replica")
    calls = Calls(is_fine)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: parked(bus))
        assert calls.names == []
        assert kcp.writes("repositories") == []
        await locks.delete("repositories.c1.site", last=revision)
        await until(lambda: acked(bus))
    assert calls.names == ["c1/site"]


async def test_a_handler_whose_lock_is_lost_is_cancelled_and_the_message_put_back(bus: Bus, kcp: InMemoryKcp) -> None:
    locks = await bus.bucket(bus_module.LOCKS)
    cancelled = asyncio.Event()
    entered = asyncio.Event()

    async def first_hangs(ctx: ReconcileContext[Repository]) -> Outcome:
        if cancelled.is_set():
            return await is_fine(ctx)
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    calls = Calls(first_hangs)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls, timing=Timing(fetch=0.1, renew=0.05, worker=WorkerTiming(lost_after=0.1))):
        await entered.wait()
        await locks.put("repositories.c1.site", b"another replica")
        await until(cancelled.is_set)
        await locks.delete("repositories.c1.site")
        await until(lambda: acked(bus))
    assert stored(kcp)["status"]["repoID"] == "7"


async def test_a_living_handler_keeps_its_message_and_its_lock(bus: Bus, kcp: InMemoryKcp) -> None:
    await deliver_again_after(bus, 0.2)
    gate = Gate()
    calls = Calls(gate)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls, timing=Timing(fetch=0.1, renew=0.05, worker=WorkerTiming(lost_after=0.2))):
        await gate.entered.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await gate.entered.acquire()
        gate.opened.set()
        await until(lambda: acked(bus))
    assert len(calls.names) == 1


# ---- shares


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_two_thousand_events_of_one_workspace_do_not_delay_another(bus: Bus, kcp: InMemoryKcp) -> None:
    gate = Gate()

    async def only_the_crowd_waits(ctx: ReconcileContext[Repository]) -> Outcome:
        return await gate(ctx) if ctx.object.workspace.cluster == "crowd" else await is_fine(ctx)

    calls = Calls(only_the_crowd_waits)
    crowd = [event_for(put(kcp, f"r{n}", "crowd"), cluster="crowd") for n in range(2000)]
    await asyncio.gather(*(bus.publish(event) for event in crowd))
    async with working(bus, kcp, calls):
        await until(lambda: calls.at_once == 16)
        await bus.publish(event_for(put(kcp, "one", "other"), cluster="other"))
        # None of the crowd ends meanwhile. Each of them is looked at and put back first, which a busy machine takes long for.
        await until(lambda: "other/one" in calls.names, seconds=240)
        assert calls.at_once <= 17
        gate.opened.set()
        await until(lambda: len(set(calls.names)) > 200)


async def test_drift_gets_a_quarter_of_the_slots(bus: Bus, kcp: InMemoryKcp) -> None:
    gate = Gate()
    calls = Calls(gate)
    for n in range(12):
        await bus.publish(event_for(put(kcp, f"r{n}"), reason="resync"))
    async with working(bus, kcp, calls, max_in_flight=8):
        await gate.entered.acquire()
        await gate.entered.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await gate.entered.acquire()
        gate.opened.set()
        await until(lambda: acked(bus))


async def test_drift_gets_idle_slots_only(bus: Bus, kcp: InMemoryKcp) -> None:
    turns: dict[str, asyncio.Event] = {}

    async def one_at_a_time(ctx: ReconcileContext[Repository]) -> Outcome:
        await turns.setdefault(ctx.object.name, asyncio.Event()).wait()
        return await is_fine(ctx)

    calls = Calls(one_at_a_time)
    for n in range(20):
        await bus.publish(event_for(put(kcp, f"wanted{n}")))
    for n in range(4):
        await bus.publish(event_for(put(kcp, f"drift{n}"), reason="resync"))
    async with working(bus, kcp, calls, max_in_flight=4):
        for done in range(16):
            await until(lambda expected=done: len(calls.names) >= expected + 4)
            assert not any("drift" in name for name in calls.names), calls.names
            assert calls.at_once <= 4
            turns[calls.names[done].partition("/")[2]].set()
        for n in range(20):
            turns.setdefault(f"wanted{n}", asyncio.Event()).set()
        for n in range(4):
            turns.setdefault(f"drift{n}", asyncio.Event()).set()
        await until(lambda: acked(bus))
    assert len(calls.names) == 24


async def test_a_replica_takes_no_more_than_it_has_slots(bus: Bus, kcp: InMemoryKcp) -> None:
    gate = Gate()
    calls = Calls(gate)
    async with working(
        bus, kcp, calls, max_in_flight=4, timing=Timing(fetch=1, renew=0.1, worker=WorkerTiming(lost_after=0.5))
    ):
        await until(lambda: drift_is_asked_for(bus))
        for n in range(8):
            await bus.publish(event_for(put(kcp, f"wanted{n}")))
        for _ in range(4):
            await gate.entered.acquire()
        # The request for a drift message is still out from when there was room.
        await bus.publish(event_for(put(kcp, "drift"), reason="resync"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await gate.entered.acquire()
        gate.opened.set()
        await until(lambda: acked(bus))


async def test_an_appointment_on_the_resync_lane_is_kept_when_the_object_cannot_be_looked_at_just_then(
    bus: Bus, kcp: InMemoryKcp
) -> None:
    locks = await bus.bucket(bus_module.LOCKS)
    calls = Calls(raising(NotReady("InvitationPending", "m", requeue_after=timedelta(seconds=1))))
    await bus.publish(event_for(put(kcp), reason="resync"))
    async with working(bus, kcp, calls):
        await until(lambda: len(calls.names) == 1 and not calls.at_once)
        revision = await locks.put("repositories.c1.site", b"another replica")

        async def delivered_again() -> bool:
            return await delivered(bus, "repository-svc-resync") >= 3

        await until(delivered_again)
        assert len(calls.names) == 1
        await locks.delete("repositories.c1.site", last=revision)
        await until(lambda: acked(bus))
    assert len(calls.names) == 2


@pytest.mark.parametrize("error", [Retryable("RateLimited", "m"), LookupError("m")], ids=["no budget", "unforeseen"])
async def test_a_drift_pass_that_cannot_be_done_now_leaves_no_trace(
    bus: Bus, kcp: InMemoryKcp, error: Exception
) -> None:
    calls = Calls(raising(error, error))
    await bus.publish(event_for(put(kcp), reason="resync"))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert len(calls.names) == 1
    assert kcp.writes("repositories") == []


@pytest.mark.parametrize(
    ("errors", "passes", "writes"), [(1, 2, 1), (10, 4, 0)], ids=["it is over soon", "it begins anew each time"]
)
async def test_a_drift_pass_that_is_prevented_for_a_moment_is_made_again_a_few_times_and_writes_nothing_until_then(
    bus: Bus, kcp: InMemoryKcp, errors: int, passes: int, writes: int
) -> None:
    early = Retryable("HostNotYetVisible", "m", after=timedelta(seconds=60), drift_after=timedelta(seconds=0.05))
    calls = Calls(raising(*[early] * errors))
    await bus.publish(event_for(put(kcp), reason="resync"))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert len(calls.names) == passes
    assert len(kcp.writes("repositories")) == writes


@pytest.mark.parametrize("reason", ["changed", "resync"])
async def test_an_object_that_has_no_turn_at_its_host_comes_back_and_no_status_is_written(
    bus: Bus, kcp: InMemoryKcp, reason: Any
) -> None:
    calls = Calls(raising(*[HostBusy("ghe.example", 0.01)] * 3))
    await bus.publish(event_for(put(kcp), reason=reason))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    if reason == "resync":
        # Its next turn comes by itself.
        assert len(calls.names) == 1
        assert kcp.writes("repositories") == []
    else:
        assert len(calls.names) == 4
        assert len(kcp.writes("repositories")) == 1


async def test_what_was_learned_before_an_object_lost_its_turn_is_written(bus: Bus, kcp: InMemoryKcp) -> None:
    calls = Calls(raising(HostBusy("ghe.example", 0.01).learned({"repoID": "8"})))
    await bus.publish(event_for(put(kcp), reason="resync"))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert len(calls.names) == 2
    assert kcp.writes("repositories")[0].body["status"]["repoID"] == "8"


@pytest.mark.parametrize(
    "half_done",
    [{"status": {"repoID": "8"}}, {"conditions": (condition("KeyReplacing", "True", "Replacing", "m"),)}],
    ids=["an id was learned", "a condition began"],
)
async def test_a_drift_pass_that_began_to_change_something_says_so_and_goes_on(
    bus: Bus, kcp: InMemoryKcp, half_done: dict[str, Any]
) -> None:
    calls = Calls(raising(Retryable("HostUnavailable", "m", **half_done)))
    await bus.publish(event_for(put(kcp), reason="resync"))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert len(calls.names) == 2
    first, *_ = kcp.writes("repositories")
    status = first.body["status"]
    assert status.get("repoID") == "8" or "KeyReplacing" in {c["type"] for c in status["conditions"]}
