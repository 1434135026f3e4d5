"""The runtime with a real nats-server and kcp in memory: what becomes of a message, and of the object it speaks of."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from codecommon import bus as bus_module
from codecommon.api.kinds import PAUSED, REPOSITORIES
from codecommon.api.repository import Repository
from codecommon.backoff import Backoff
from codecommon.bus import Bus
from codecommon.errors import NotReady, Retryable, Terminal
from codecommon.kcp import JsonObject, KcpError
from codecommon.outcome import Outcome, Ready, Released
from codecommon.passes import Pass
from codecommon.runtime import Controller, Runtime, Timing
from codecommon.settings import NatsSettings
from codecommon.testing.builders import deleting, event_for, repository_object
from codecommon.testing.harness import conditions, message
from codecommon.testing.objects import InMemoryKcp
from devstack.nats import NatsServer

pytestmark = pytest.mark.nats

SERVICE = "repository-svc"
QUICK = Timing(fetch=0.1, renew=0.1, lost_after=0.2)
BOUND_SECONDS = 10.0

Handler = Callable[[Pass[Repository]], Awaitable[Outcome]]


@dataclass
class Calls:
    """A reconciler that does what the test says and notes what happened."""

    handler: Handler
    names: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    most_at_once: dict[str, int] = field(default_factory=dict)

    async def reconcile(self, run: Pass[Repository]) -> Outcome:
        key = f"{run.object.workspace.cluster}/{run.object.name}"
        self.names.append(key)
        self.times.append(time.monotonic())
        self.running[key] = self.running.get(key, 0) + 1
        self.most_at_once[key] = max(self.most_at_once.get(key, 0), self.running[key])
        try:
            return await self.handler(run)
        finally:
            self.running[key] -= 1

    @property
    def at_once(self) -> int:
        return sum(self.running.values())


async def is_fine(run: Pass[Repository]) -> Outcome:
    return Ready({"repoID": "7"})


def raising(*errors: Exception) -> Handler:
    """Raises ``errors``, one per pass, and is fine after that."""
    left = list(errors)

    async def handler(run: Pass[Repository]) -> Outcome:
        if left:
            raise left.pop(0)
        return await is_fine(run)

    return handler


@dataclass
class Gate:
    """Holds handlers until it is opened."""

    entered: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, run: Pass[Repository]) -> Outcome:
        self.entered.release()
        await self.opened.wait()
        return await is_fine(run)


@pytest.fixture
def kcp() -> InMemoryKcp:
    return InMemoryKcp()


def make_runtime(bus: Bus, kcp: InMemoryKcp, calls: Calls, **options: Any) -> Runtime:
    defaults: dict[str, Any] = {"max_in_flight": 64, "max_per_workspace": 16, "timing": QUICK}
    defaults["backoff"] = Backoff(0.05, 1.0, random.Random(1))
    return Runtime(SERVICE, (Controller(REPOSITORIES, Repository, calls),), bus=bus, kcp=kcp, **(defaults | options))


@asynccontextmanager
async def working(bus: Bus, kcp: InMemoryKcp, calls: Calls, **options: Any) -> AsyncIterator[Runtime]:
    """A runtime at work; leaving the block stops it in an orderly way."""
    runtime, stopping = make_runtime(bus, kcp, calls, **options), asyncio.Event()
    task = asyncio.create_task(runtime.run(stopping))
    try:
        yield runtime
        stopping.set()
        async with asyncio.timeout(BOUND_SECONDS):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)


async def queued(bus: Bus, stream: str = bus_module.EVENTS_STREAM) -> int:
    return (await bus.js.stream_info(stream)).state.messages


async def parked(bus: Bus) -> bool:
    """Whether the one message was delivered and put back."""
    info = await bus.js.consumer_info(bus_module.EVENTS_STREAM, SERVICE)
    return info.num_ack_pending == 1 and info.delivered is not None and await queued(bus) == 1


async def deliver_again_after(bus: Bus, seconds: float) -> None:
    """How long the server waits for a sign of life of who has a message."""
    config = (await bus.js.consumer_info(bus_module.EVENTS_STREAM, SERVICE)).config
    await bus.js.add_consumer(bus_module.EVENTS_STREAM, config.evolve(ack_wait=seconds))


async def delivered(bus: Bus) -> int:
    """How many deliveries there were, repeated ones included."""
    info = await bus.js.consumer_info(bus_module.EVENTS_STREAM, SERVICE)
    return info.delivered.consumer_seq if info.delivered is not None else 0


async def drift_is_asked_for(bus: Bus) -> bool:
    return (await bus.js.consumer_info(bus_module.EVENTS_STREAM, f"{SERVICE}-resync")).num_waiting == 1


async def only_one_is_queued(bus: Bus) -> bool:
    return await queued(bus) == 1


async def acked(bus: Bus) -> bool:
    return await queued(bus) == 0


def put(kcp: InMemoryKcp, name: str = "site", cluster: str = "c1", **given: Any) -> JsonObject:
    return kcp.add(repository_object(name, **given), cluster)


def stored(kcp: InMemoryKcp, name: str = "site", cluster: str = "c1") -> JsonObject:
    raw = kcp.stored("repositories", name, cluster)
    assert raw is not None
    return raw


# ---- what a result means


RESULTS = {
    "a status": (is_fine, {"Ready": ("True", "Reconciled")}),
    "Terminal": (raising(Terminal("NameTaken", "m")), {"Ready": ("False", "NameTaken"), "Stalled": ("True", "NameTaken")}),
    "NotReady": (
        raising(NotReady("ConnectionNotReady", "m")),
        {"Ready": ("False", "ConnectionNotReady"), "Reconciling": ("True", "ConnectionNotReady")},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("handler", "wanted"), RESULTS.values(), ids=RESULTS)
async def test_a_result_that_waits_for_nobody_is_written_and_acked(
    bus: Bus, kcp: InMemoryKcp, handler: Handler, wanted: dict[str, tuple[str, str]]
) -> None:
    calls = Calls(handler)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert len(calls.names) == 1
    assert conditions(stored(kcp)) == wanted
    assert stored(kcp)["status"]["observedGeneration"] == 1


async def test_retryable_is_written_and_delivered_again_with_growing_delay(bus: Bus, kcp: InMemoryKcp) -> None:
    calls = Calls(raising(*[Retryable("RateLimited", "m")] * 4))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: len(calls.names) == 1)
        await until(lambda: conditions(stored(kcp)).get("Reconciling") == ("True", "RateLimited"))
        await until(lambda: acked(bus))
    gaps = [after - before for before, after in zip(calls.times, calls.times[1:], strict=False)]
    assert len(gaps) == 4
    assert all(gap >= wanted for gap, wanted in zip(gaps, (0.05, 0.1, 0.2, 0.4), strict=True)), gaps
    assert conditions(stored(kcp)) == {"Ready": ("True", "Reconciled")}


async def test_an_exception_that_nobody_foresaw_shows_its_type_and_nothing_else(bus: Bus, kcp: InMemoryKcp) -> None:
    calls = Calls(raising(LookupError("the token is ghp_0123456789")))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: parked(bus))
    assert conditions(stored(kcp))["Reconciling"] == ("True", "InternalError")
    assert "LookupError" in message(stored(kcp), "Reconciling")
    assert "token" not in message(stored(kcp), "Reconciling")


async def test_an_exception_that_nobody_foresaw_is_not_tried_again_at_once(bus: Bus, kcp: InMemoryKcp) -> None:
    calls = Calls(raising(*[LookupError("m")] * 5))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: parked(bus))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await until(lambda: len(calls.names) > 1)


async def test_a_released_object_loses_our_finalizer_and_its_message(bus: Bus, kcp: InMemoryKcp) -> None:
    async def release(run: Pass[Repository]) -> Outcome:
        return Released()

    await bus.publish(event_for(kcp.add(deleting(repository_object()))))
    async with working(bus, kcp, Calls(release)):
        await until(lambda: acked(bus))
    assert kcp.stored("repositories", "site") is None


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (repository_object(metadata={"annotations": {PAUSED: "true"}}), "paused"),
        (repository_object(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}), "not ours"),
    ],
    ids=["paused", "deleting without our finalizer"],
)
async def test_what_is_not_for_us_to_touch_is_acked_untouched(
    bus: Bus, kcp: InMemoryKcp, raw: JsonObject, left: str
) -> None:
    calls = Calls(is_fine)
    await bus.publish(event_for(kcp.add(raw)))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert calls.names == []
    assert kcp.writes("repositories") == []


async def test_a_paused_object_is_still_released(bus: Bus, kcp: InMemoryKcp) -> None:
    async def release(run: Pass[Repository]) -> Outcome:
        return Released()

    await bus.publish(event_for(kcp.add(deleting(repository_object(metadata={"annotations": {PAUSED: "true"}})))))
    async with working(bus, kcp, Calls(release)):
        await until(lambda: kcp.stored("repositories", "site") is None)


async def test_an_object_that_is_gone_is_acked(bus: Bus, kcp: InMemoryKcp) -> None:
    raw = put(kcp)
    kcp.remove("repositories", "site")
    await bus.publish(event_for(raw))
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: acked(bus))


async def test_the_object_is_read_at_the_version_of_the_event(bus: Bus, kcp: InMemoryKcp) -> None:
    raw = put(kcp)
    await bus.publish(event_for(raw))
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: acked(bus))
    read = next(r for r in kcp.requests if not r.writes)
    assert read.params == {"resourceVersion": raw["metadata"]["resourceVersion"]}


# ---- kcp fails


@pytest.mark.parametrize(
    "failure",
    [KcpError(503, "ServiceUnavailable", "m"), aiohttp.ClientConnectionError(), TimeoutError()],
    ids=["503", "no connection", "no answer"],
)
@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_a_kcp_that_fails_puts_the_message_back(
    bus: Bus, kcp: InMemoryKcp, failure: Exception, method: str
) -> None:
    def fail() -> None:
        raise failure

    calls = Calls(is_fine)
    kcp.once(lambda request: request.method == method, fail)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert stored(kcp)["status"]["repoID"] == "7"


async def test_an_answer_that_no_model_fits_does_not_end_the_process(bus: Bus, kcp: InMemoryKcp) -> None:
    broken = put(kcp, "broken")
    kcp.edit("repositories", "broken", {"spec": {"visibility": "sideways"}})
    calls = Calls(is_fine)
    await bus.publish(event_for(broken))
    async with working(bus, kcp, calls):
        await until(lambda: parked(bus))
        await bus.publish(event_for(put(kcp)))
        await until(lambda: calls.names == ["c1/site"])


async def test_an_id_from_the_host_survives_conflicts(bus: Bus, kcp: InMemoryKcp) -> None:
    bumps = 0

    def somebody_writes(request: Any) -> None:
        nonlocal bumps
        if request.subresource == "status" and bumps < 2:
            bumps += 1
            kcp.edit("repositories", "site", {"metadata": {"labels": {"bump": str(bumps)}}})

    kcp.before.append(somebody_writes)
    calls = Calls(is_fine)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert stored(kcp)["status"]["repoID"] == "7"
    assert len(calls.names) == 1


async def test_a_pass_that_keeps_meeting_conflicts_is_put_back(bus: Bus, kcp: InMemoryKcp) -> None:
    bumps = 0

    def somebody_writes(request: Any) -> None:
        nonlocal bumps
        if request.writes and bumps < 20:
            bumps += 1
            kcp.edit("repositories", "site", {"metadata": {"labels": {"bump": str(bumps)}}})

    kcp.before.append(somebody_writes)
    calls = Calls(is_fine)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert stored(kcp)["status"]["repoID"] == "7"


async def test_an_endpoint_that_kcp_does_not_list_is_sent_nothing(bus: Bus, kcp: InMemoryKcp) -> None:
    raw = put(kcp)
    calls = Calls(is_fine)
    await bus.publish(event_for(raw, endpoint="https://evil.example/services/apiexport/p1/code"))
    async with working(bus, kcp, calls):
        await until(lambda: parked(bus))
    assert kcp.requests == []
    assert calls.names == []


# ---- messages


@pytest.mark.parametrize(
    "body",
    [b"not json", b"[]", b'{"specversion":"1.0"}', b'{"specversion":"1.0","type":"another"}'],
    ids=["no JSON", "no object", "no event", "another type"],
)
async def test_a_message_that_cannot_be_decoded_is_set_aside_for_people(
    bus: Bus, kcp: InMemoryKcp, body: bytes
) -> None:
    await bus.js.publish("code.events.repositories.c1.site", body)
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: acked(bus))
    dead = await bus.js.get_last_msg(bus_module.DEAD_STREAM, "code.dead.code.events.repositories.c1.site")
    assert dead.data == body


async def test_an_event_under_the_subject_of_another_object_is_set_aside(bus: Bus, kcp: InMemoryKcp) -> None:
    event = event_for(put(kcp))
    body = event.encode("2026-01-01T00:00:00Z").replace(b'"resource":"repositories"', b'"resource":"connections"')
    await bus.js.publish("code.events.repositories.c1.site", body)
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: acked(bus))
    assert await queued(bus, bus_module.DEAD_STREAM) == 1


async def test_a_newer_event_replaces_a_parked_one_and_is_handled_at_once(bus: Bus, kcp: InMemoryKcp) -> None:
    calls = Calls(raising(Retryable("RateLimited", "m", after=timedelta(hours=1))))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: parked(bus))
        edited = kcp.edit("repositories", "site", {"spec": {"description": "new"}})
        await bus.publish(event_for(edited))
        await until(lambda: acked(bus))
    assert len(calls.names) == 2
    assert stored(kcp)["status"]["observedGeneration"] == 2


async def test_a_message_whose_handling_ended_five_processes_is_set_aside(
    bus: Bus, kcp: InMemoryKcp, caplog: pytest.LogCaptureFixture
) -> None:
    await deliver_again_after(bus, 0.2)
    await bus.publish(event_for(put(kcp)))
    gate = Gate()
    calls = Calls(gate)
    for death in range(1, 6):
        process = asyncio.create_task(
            make_runtime(bus, kcp, calls, timing=Timing(fetch=0.1, renew=60)).run(asyncio.Event())
        )
        await until(lambda expected=death: len(calls.names) == expected)
        process.cancel()
        await asyncio.gather(process, return_exceptions=True)

    async with working(bus, kcp, calls):
        await until(lambda: "set aside" in caplog.text)
        await until(lambda: parked(bus))
        edited = kcp.edit("repositories", "site", {"spec": {"description": "new"}})
        gate.opened.set()
        await bus.publish(event_for(edited))
        await until(lambda: acked(bus))
    assert len(calls.names) == 6


async def test_a_long_pass_says_that_it_is_under_way(bus: Bus, kcp: InMemoryKcp) -> None:
    gate = Gate()
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, Calls(gate), timing=Timing(fetch=0.1, announce_after=0.05)):
        await until(lambda: conditions(stored(kcp)).get("Reconciling") == ("True", "Progressing"))
        gate.opened.set()
        await until(lambda: acked(bus))
    assert conditions(stored(kcp)) == {"Ready": ("True", "Reconciled")}


async def test_a_short_pass_writes_its_status_once(bus: Bus, kcp: InMemoryKcp) -> None:
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: acked(bus))
    assert len(kcp.writes("repositories")) == 1


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

    async def first_hangs(run: Pass[Repository]) -> Outcome:
        if cancelled.is_set():
            return await is_fine(run)
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    calls = Calls(first_hangs)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls, timing=Timing(fetch=0.1, renew=0.05, lost_after=0.1)):
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
    async with working(bus, kcp, calls, timing=Timing(fetch=0.1, renew=0.05, lost_after=0.2)):
        await gate.entered.acquire()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.6):
                await gate.entered.acquire()
        gate.opened.set()
        await until(lambda: acked(bus))
    assert len(calls.names) == 1


# ---- shares


async def test_two_thousand_events_of_one_workspace_do_not_delay_another(bus: Bus, kcp: InMemoryKcp) -> None:
    gate = Gate()

    async def only_the_crowd_waits(run: Pass[Repository]) -> Outcome:
        return await gate(run) if run.object.workspace.cluster == "crowd" else await is_fine(run)

    calls = Calls(only_the_crowd_waits)
    crowd = [event_for(put(kcp, f"r{n}", "crowd"), cluster="crowd") for n in range(2000)]
    await asyncio.gather(*(bus.publish(event) for event in crowd))
    async with working(bus, kcp, calls):
        await until(lambda: calls.at_once == 16)
        started = time.monotonic()
        await bus.publish(event_for(put(kcp, "one", "other"), cluster="other"))
        await until(lambda: "other/one" in calls.names)
        assert time.monotonic() - started < 5
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

    async def one_at_a_time(run: Pass[Repository]) -> Outcome:
        await turns.setdefault(run.object.name, asyncio.Event()).wait()
        return await is_fine(run)

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
    async with working(bus, kcp, calls, max_in_flight=4, timing=Timing(fetch=1, renew=0.1, lost_after=0.5)):
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


async def test_a_drift_pass_that_learned_an_id_keeps_it(bus: Bus, kcp: InMemoryKcp) -> None:
    calls = Calls(raising(Retryable("HostUnavailable", "m", status={"repoID": "8"})))
    await bus.publish(event_for(put(kcp), reason="resync"))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert stored(kcp)["status"]["repoID"] == "8"


# ---- the end, and NATS


async def test_a_stop_finishes_what_is_in_flight(bus: Bus, kcp: InMemoryKcp) -> None:
    gate = Gate()
    calls = Calls(gate)
    await bus.publish(event_for(put(kcp)))
    stopping = asyncio.Event()
    task = asyncio.create_task(make_runtime(bus, kcp, calls).run(stopping))
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

    async def by_name(run: Pass[Repository]) -> Outcome:
        handlers: dict[str, Handler] = {"held": gate, "retried": failures}
        return await handlers.get(run.object.name, is_fine)(run)

    calls = Calls(by_name)
    async with nats_of_its_own(tmp_path) as (server, bus):
        await bus.publish(event_for(put(kcp, "held")))
        await bus.publish(event_for(put(kcp, "retried")))
        async with working(bus, kcp, calls, timing=Timing(fetch=0.1, renew=0.1, lost_after=5)) as runtime:
            await gate.entered.acquire()
            await until(lambda: runtime.in_flight == 1)
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

    async def held_the_second_time(run: Pass[Repository]) -> Outcome:
        await failures(run)
        return await gate(run)

    calls = Calls(held_the_second_time)
    async with nats_of_its_own(tmp_path) as (server, bus):
        await bus.publish(event_for(put(kcp)))
        async with working(bus, kcp, calls, timing=Timing(fetch=0.1, renew=0.1, lost_after=5)) as runtime:
            await gate.entered.acquire()
            await server.stop()
            gate.opened.set()
            await until(lambda: stored(kcp)["status"].get("repoID") == "7")
            await until(lambda: runtime.in_flight == 0)
            await server.start()
            await reconnected(bus)
            await bus.publish(event_for(put(kcp, "after")))
            await until(lambda: "c1/after" in calls.names)
            await until(lambda: acked(bus))


async def test_every_handler_whose_lock_is_lost_is_cancelled_in_time_while_nats_hangs(
    tmp_path: Path, kcp: InMemoryKcp
) -> None:
    cancelled: list[str] = []

    async def hang(run: Pass[Repository]) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(run.object.name)
            raise
        raise AssertionError

    calls = Calls(hang)
    async with nats_of_its_own(tmp_path) as (server, bus):
        for n in range(48):
            await bus.publish(event_for(put(kcp, f"r{n}")))
        process = asyncio.create_task(
            make_runtime(
                bus, kcp, calls, max_per_workspace=64, timing=Timing(fetch=0.1, renew=0.2, lost_after=0.5)
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
