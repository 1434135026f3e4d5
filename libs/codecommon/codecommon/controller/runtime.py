"""Messages: taken when there is a slot, kept alive while they are worked on, settled as the handler says.

    fetch → decode → share of the workspace → mutex, lock and read → reconcile → commit → ack or nak

The result table is in docs/architecture.md. A message is acknowledged only after its status is written.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from codecommon.controller.fairness import Shares
from codecommon.controller.handling import Appointment, Handler
from codecommon.controller.metrics import MESSAGES_SET_ASIDE
from codecommon.controller.reconciler import Controller, Timing
from codecommon.kcp.client import JsonObject, ProviderKcp
from codecommon.messaging import bus as bus_module
from codecommon.messaging import locks, tracing
from codecommon.messaging.bus import Bus, raise_if_cancelled
from codecommon.messaging.events import Lane, ObjectEvent, UndecodableEvent
from codecommon.messaging.poison_messages import PoisonMessages
from codecommon.process import logs
from codecommon.process.backoff import Backoff

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _InFlight:
    """A message being worked on, for the heartbeat; ``settled`` from the moment its answer is on its way."""

    msg: Msg
    settled: bool = False
    task: asyncio.Task[None] | None = None
    lock: locks.ReplicaLock | None = None


class Runtime:
    """Runs the controllers of one service."""

    def __init__(
        self,
        service: str,
        controllers: tuple[Controller[Any], ...],
        *,
        bus: Bus,
        kcp: ProviderKcp,
        max_in_flight: int,
        max_per_workspace: int,
        resync: timedelta = timedelta(0),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        timing: Timing | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._service = service
        self._kinds = {c.kind.resource: c.kind.kind for c in controllers}
        self._bus = bus
        self._timing = timing or Timing()
        self._limits: dict[Lane, int] = {"events": max_in_flight, "resync": max(1, max_in_flight // 4)}
        self._shares = Shares(max_per_workspace)
        self._backoff = backoff or Backoff()
        self._handler = Handler(
            service,
            controllers,
            kcp=kcp,
            backoff=self._backoff,
            announce_after=self._timing.announce_after,
            resync=resync,
            now=now,
        )
        self._lock_backoff = Backoff(0.25, 5.0)
        self._mutex = locks.KeyedMutex()
        self._replica = uuid.uuid4().hex
        self._in_flight: dict[Lane, set[_InFlight]] = {"events": set(), "resync": set()}
        self._changed = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until ``stopping`` is set, then finish what is in flight."""
        lock_bucket = await self._bus.bucket(bus_module.LOCKS)
        strikes = PoisonMessages(await self._bus.bucket(bus_module.STRIKES))
        async with asyncio.TaskGroup() as group:
            heartbeat = group.create_task(self._heartbeat(), name="heartbeat")
            lanes: tuple[Lane, ...] = ("events", "resync")
            async with asyncio.TaskGroup() as fetching:
                for lane in lanes:
                    subscription = await self._bus.subscribe(self._service, lane)
                    fetching.create_task(
                        self._lane(lane, subscription, lock_bucket, strikes, group, stopping), name=f"{lane}-lane"
                    )
            while self.in_flight:
                await self._slot_change()
            heartbeat.cancel()

    @property
    def in_flight(self) -> int:
        """How many messages are being worked on."""
        return sum(len(entries) for entries in self._in_flight.values())

    # ---- taking messages

    async def _lane(
        self,
        lane: Lane,
        subscription: JetStreamContext.PullSubscription,
        lock_bucket: KeyValue,
        strikes: PoisonMessages,
        group: asyncio.TaskGroup,
        stopping: asyncio.Event,
    ) -> None:
        while not stopping.is_set():
            raise_if_cancelled()
            if not self._has_room(lane):
                await self._slot_change()
                continue
            if lane == "resync" and await self._bus.has_waiting_events(self._service):
                await asyncio.sleep(self._timing.fetch)
                continue
            msg = await bus_module.fetch_one(subscription, self._timing.fetch)
            if msg is None:
                continue
            if stopping.is_set() or not self._has_room(lane):
                await self._put_back(msg)
                continue
            self._start(lane, msg, lock_bucket, strikes, group)

    def _has_room(self, lane: Lane) -> bool:
        """Drift gets a quarter of the slots at most, and never the one that the next event is asked for with."""
        limit = self._limits["events"]
        if lane == "resync":
            return self.in_flight < max(1, limit - 1) and len(self._in_flight[lane]) < self._limits[lane]
        return self.in_flight < limit

    async def _slot_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _start(
        self, lane: Lane, msg: Msg, lock_bucket: KeyValue, strikes: PoisonMessages, group: asyncio.TaskGroup
    ) -> None:
        entry = _InFlight(msg)
        entry.task = task = group.create_task(self._handle(lane, entry, lock_bucket, strikes))
        self._in_flight[lane].add(entry)

        def done(_: asyncio.Task[None]) -> None:
            self._in_flight[lane].discard(entry)
            self._changed.set()

        task.add_done_callback(done)

    async def _heartbeat(self) -> None:
        """Keeps the messages and locks of living handlers; ends a handler whose lock another may have by now."""
        while True:
            await asyncio.sleep(self._timing.renew)
            # All at once: while NATS does not answer, none may wait for the others' time-outs to learn that its lock is lost.
            await asyncio.gather(*(self._keep(entry) for entries in self._in_flight.values() for entry in entries))

    async def _keep(self, entry: _InFlight) -> None:
        if entry.settled:
            # A sign of life after "deliver again in 1 s" makes the server wait the whole ack_wait instead.
            return
        if entry.lock is not None and entry.lock.lost and entry.task is not None:
            _log.warning("lost the lock of an object at work; its handler is stopped")
            entry.task.cancel("lock lost")
            return
        with suppress(NatsError, TimeoutError):
            async with asyncio.timeout(self._timing.renew / 2):
                await entry.msg.in_progress()
                if entry.lock is not None:
                    await entry.lock.renew()

    # ---- one message

    async def _handle(self, lane: Lane, entry: _InFlight, lock_bucket: KeyValue, strikes: PoisonMessages) -> None:
        msg = entry.msg
        try:
            try:
                event = _decode(msg)
            except UndecodableEvent as error:
                await self._bus.bury(msg, str(error))
                MESSAGES_SET_ASIDE.labels(self._service, "undecodable").inc()
                return
            delay = self._shares.delay(event.cluster)
            if delay is not None:
                await self._settle(lane, entry, delay)
                return
            with (
                self._shares.running(event.cluster),
                logs.bind(kind=self._kinds[event.resource], cluster=event.cluster, name=event.name),
                tracing.consume(msg, event),
            ):
                await self._event(lane, entry, event, lock_bucket, strikes)
        except (NatsError, TimeoutError) as error:
            # Unsettled: delivered again after ack_wait, and handling twice is safe.
            _log.warning("NATS does not answer: %s", type(error).__name__)

    async def _event(
        self, lane: Lane, entry: _InFlight, event: ObjectEvent, lock_bucket: KeyValue, strikes: PoisonMessages
    ) -> None:
        msg = entry.msg
        strike = await strikes.before(msg, event)
        if strike.out:
            _log.error(
                "handling this object ended its process %d times; it is set aside for %d s",
                strike.count,
                self._timing.set_aside,
            )
            MESSAGES_SET_ASIDE.labels(self._service, "deadly").inc()
            await self._settle(lane, entry, self._timing.set_aside)
            return
        delay = await self._exclusively(lane, entry, event, lock_bucket)
        try:
            # Before the answer: the next delivery may be there at once, and would be counted on top of this one.
            await strike.clear()
        finally:
            # An answer is sent once NATS is back, too.
            await self._settle(lane, entry, delay)

    async def _exclusively(
        self, lane: Lane, entry: _InFlight, event: ObjectEvent, lock_bucket: KeyValue
    ) -> float | None:
        """Handle under the object's mutex and lock. Returns None for ack, or the seconds after which to deliver again."""
        key = entry.msg.subject.split(".", 2)[2]
        async with self._mutex.hold(key):
            # Read while the lock is on its way: what was read a moment too early, a guarded write will catch.
            reading = asyncio.create_task(self._handler.read(event))
            try:
                return await self._locked(lane, entry, event, lock_bucket, key, reading)
            finally:
                await _abandon(reading)

    async def _locked(
        self,
        lane: Lane,
        entry: _InFlight,
        event: ObjectEvent,
        lock_bucket: KeyValue,
        key: str,
        reading: asyncio.Task[JsonObject | None],
    ) -> float | None:
        try:
            lock = await locks.acquire(lock_bucket, key, self._replica, self._timing.lost_after)
        except locks.Taken:
            return self._lock_backoff.failed(key)
        except (NatsError, TimeoutError):
            return self._backoff.failed(event.uid)
        self._lock_backoff.succeeded(key)
        entry.lock = lock
        try:
            return await self._handler.handle(lane, event, reading)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if not lock.lost or current is None:
                raise
            current.uncancel()
            return self._backoff.failed(event.uid)
        finally:
            # From here on the heartbeat has nothing to stop.
            entry.lock = None
            await lock.release()

    # ---- settling

    async def _settle(self, lane: Lane, entry: _InFlight, delay: float | None) -> None:
        """Ack, or put back. A resync message is acked unless there is an appointment: its next turn comes by itself.

        One that comes again was put back for an appointment, which is not over because this was not the moment for it.
        """
        entry.settled = True
        kept = lane == "events" or isinstance(delay, Appointment) or entry.msg.metadata.num_delivered > 1
        if delay is None or not kept:
            await entry.msg.ack()
        else:
            await entry.msg.nak(delay=delay)

    async def _put_back(self, msg: Msg) -> None:
        """Give a message back that was not looked at."""
        with suppress(NatsError, TimeoutError):
            await msg.nak()


def _decode(msg: Msg) -> ObjectEvent:
    event = ObjectEvent.decode(msg.data)
    if event.subject != msg.subject:
        raise UndecodableEvent("its subject is that of another object")
    return event


async def _abandon(task: asyncio.Task[Any]) -> None:
    """Let a task that nobody waits for any more end, whatever it ends with."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
