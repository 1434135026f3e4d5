"""From a message to a reconciler and back: the one place that decides what a result means for status and message.

    fetch → decode → share of the workspace → mutex, lock and read → reconcile → commit → ack or nak

The result table is in docs/architecture.md. A message is acknowledged only after its status is written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Generic, Protocol, TypeVar

import aiohttp
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from codecommon import bus as bus_module
from codecommon import locks, logs, telemetry
from codecommon.api.kinds import Kind
from codecommon.api.meta import Resource, Workspace
from codecommon.backoff import Backoff
from codecommon.bus import Bus
from codecommon.endpoints import KnownEndpoints, UnknownEndpoint
from codecommon.errors import Interruption, Retryable, Terminal
from codecommon.events import Lane, ObjectEvent, UndecodableEvent
from codecommon.fairness import Shares
from codecommon.kcp import JsonObject, Kcp, KcpError, NotFound
from codecommon.kubeconfig import KubeconfigError
from codecommon.metrics import MESSAGES_SET_ASIDE, RECONCILE_RESULTS, RECONCILE_SECONDS
from codecommon.outcome import Outcome, Released
from codecommon.passes import Gone, Pass, Superseded
from codecommon.strikes import Strikes

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=Resource[Any, Any])

_DECIDE_AGAIN: Final = 3
_LONGEST_AFTER: Final = timedelta(hours=1)
_UNFORESEEN_AFTER: Final = timedelta(seconds=30)
# The answers of kcp that say "not now", as opposed to "not so".
_KCP_UNAVAILABLE: Final = (aiohttp.ClientError, TimeoutError, KubeconfigError)


class Reconciler(Protocol[T]):
    async def reconcile(self, run: Pass[T]) -> Outcome:
        """Make the host match the object. Safe to run twice; raises what ``codecommon.errors`` defines."""
        ...


@dataclass(frozen=True, slots=True)
class Controller(Generic[T]):
    """One kind and who reconciles it. ``owned``: condition types of the kind besides the summary ones."""

    kind: Kind
    parse: type[T]
    reconciler: Reconciler[T]
    owned: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Timing:
    """The periods of a runtime, in seconds.

    ``fetch``: how long one request for a message waits. ``announce_after``: a pass that takes longer says so in status.
    ``renew`` and ``lost_after``: of locks. ``set_aside``: how long a message rests that keeps ending its process.
    """

    fetch: float = 2.0
    announce_after: float = 2.0
    renew: float = locks.RENEW_SECONDS
    lost_after: float = locks.LOST_AFTER_SECONDS
    set_aside: float = 600.0


@dataclass(slots=True, eq=False)
class _InFlight:
    """A message being worked on, for the heartbeat."""

    msg: Msg
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
        kcp: Kcp,
        max_in_flight: int,
        max_per_workspace: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        timing: Timing | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._service = service
        self._controllers = {c.kind.resource: c for c in controllers}
        self._bus = bus
        self._kcp = kcp
        self._now = now
        self._timing = timing or Timing()
        self._known = KnownEndpoints(kcp)
        self._limits: dict[Lane, int] = {"events": max_in_flight, "resync": max(1, max_in_flight // 4)}
        self._shares = Shares(max_per_workspace)
        self._backoff = backoff or Backoff()
        self._lock_backoff = Backoff(0.25, 5.0)
        self._mutex = locks.KeyedMutex()
        self._in_flight: dict[Lane, set[_InFlight]] = {"events": set(), "resync": set()}
        self._changed = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until ``stopping`` is set, then finish what is in flight."""
        lock_bucket = await self._bus.bucket(bus_module.LOCKS)
        strikes = Strikes(await self._bus.bucket(bus_module.STRIKES))
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
        strikes: Strikes,
        group: asyncio.TaskGroup,
        stopping: asyncio.Event,
    ) -> None:
        while not stopping.is_set():
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # Before Python 3.12 asyncio.wait_for, which nats-py waits with, may drop a cancellation that comes with a result.
                raise asyncio.CancelledError
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

    def _start(self, lane: Lane, msg: Msg, lock_bucket: KeyValue, strikes: Strikes, group: asyncio.TaskGroup) -> None:
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

    async def _handle(self, lane: Lane, entry: _InFlight, lock_bucket: KeyValue, strikes: Strikes) -> None:
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
                await self._settle(lane, msg, delay)
                return
            with (
                self._shares.running(event.cluster),
                logs.bind(kind=self._controllers[event.resource].kind.kind, cluster=event.cluster, name=event.name),
                telemetry.consume(msg, event),
            ):
                await self._event(lane, entry, event, lock_bucket, strikes)
        except (NatsError, TimeoutError) as error:
            # Unsettled: delivered again after ack_wait, and handling twice is safe.
            _log.warning("NATS does not answer: %s", type(error).__name__)

    async def _event(
        self, lane: Lane, entry: _InFlight, event: ObjectEvent, lock_bucket: KeyValue, strikes: Strikes
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
            await self._settle(lane, msg, self._timing.set_aside)
            return
        delay = await self._exclusively(lane, entry, event, lock_bucket)
        await self._settle(lane, msg, delay)
        await strike.clear()

    async def _exclusively(
        self, lane: Lane, entry: _InFlight, event: ObjectEvent, lock_bucket: KeyValue
    ) -> float | None:
        """Handle under the object's mutex and lock. Returns None for ack, or the seconds after which to deliver again."""
        key = entry.msg.subject.split(".", 2)[2]
        async with self._mutex.hold(key):
            # Read while the lock is on its way: what was read a moment too early, a guarded write will catch.
            reading = asyncio.create_task(self._read(event))
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
            lock = await locks.acquire(lock_bucket, key, self._timing.lost_after)
        except locks.Taken:
            return self._lock_backoff.failed(key)
        except (NatsError, TimeoutError):
            return self._backoff.failed(event.uid)
        self._lock_backoff.succeeded(key)
        entry.lock = lock
        try:
            return await self._object(lane, event, reading)
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

    async def _object(self, lane: Lane, event: ObjectEvent, reading: asyncio.Task[JsonObject | None]) -> float | None:
        controller = self._controllers[event.resource]
        started = time.monotonic()
        result = "Error"
        try:
            raw = await reading
            if raw is None:
                self._backoff.succeeded(event.uid)
                result = "Gone"
                return None
            run = self._pass(controller, event, raw)
            with logs.bind(generation=run.object.metadata.generation):
                outcome = await self._decide(lane, controller, run)
                result = type(outcome).__name__ if outcome is not None else "Gone"
                return self._delay(event, outcome)
        except UnknownEndpoint:
            # A shard that is gone: whoever watches the object now tells of it with an endpoint that is there.
            _log.warning("the event names an endpoint that is not in the endpoint slice; it is dropped")
            result = "UnknownEndpoint"
            return None
        except _KCP_UNAVAILABLE as error:
            _log.warning("kcp cannot be reached now: %s", type(error).__name__)
            return self._backoff.failed(event.uid)
        except KcpError as error:
            _log.warning("kcp refused: %s", error)
            return max(self._backoff.failed(event.uid), error.retry_after or 0)
        except Exception:  # noqa: BLE001 - the top-level handler of a message: an object that no model fits must not end the process
            _log.exception("handling failed")
            return self._backoff.jitter(_UNFORESEEN_AFTER.total_seconds())
        finally:
            RECONCILE_RESULTS.labels(controller.kind.kind, result).inc()
            RECONCILE_SECONDS.labels(controller.kind.kind).observe(time.monotonic() - started)

    def _pass(self, controller: Controller[Any], event: ObjectEvent, raw: JsonObject) -> Pass[Any]:
        objects = self._kcp.objects(Workspace(event.endpoint, event.cluster))
        return Pass(
            controller.kind, controller.parse, controller.owned, objects, raw, event.versions, event.twins, event.time
        )

    async def _read(self, event: ObjectEvent) -> JsonObject | None:
        """The object at the event's version or later; None: there is none. Raises ``UnknownEndpoint``."""
        await self._known.require(event.endpoint)
        objects = self._kcp.objects(Workspace(event.endpoint, event.cluster))
        try:
            return await objects.get(event.resource, event.name, not_older=event.resource_version)
        except NotFound:
            return None

    async def _decide(self, lane: Lane, controller: Controller[Any], run: Pass[Any]) -> Outcome | Interruption | None:
        """Reconcile and commit, deciding again when somebody else wrote in between. None: the object is gone."""
        try:
            for _ in range(_DECIDE_AGAIN):
                if run.object.deleting and not run.held:
                    return Released()
                if run.object.paused and not run.object.deleting:
                    return Released()
                try:
                    result = await self._reconcile(lane, controller, run)
                    if isinstance(result, Released):
                        await run.release()
                    elif lane == "events" or not isinstance(result, Retryable) or run.learns_from(result):
                        # A drift pass that cannot be done now is done at its next turn, and is nobody's concern until then.
                        await run.commit(result, self._now())
                except Superseded:
                    await run.reload()
                else:
                    return result
        except Gone:
            return None
        return Retryable("Conflict", "the object is being written by others; trying again")

    async def _reconcile(self, lane: Lane, controller: Controller[Any], run: Pass[Any]) -> Outcome | Interruption:
        announcing = asyncio.create_task(self._announce_when_long(lane, run))
        try:
            return await controller.reconciler.reconcile(run)
        except Interruption as interruption:
            return interruption
        except (Superseded, Gone, KcpError, *_KCP_UNAVAILABLE):
            raise
        except Exception as error:  # noqa: BLE001 - the top-level handler of a pass: what we do not understand is retryable
            _log.exception("reconciling failed")
            return Retryable(
                "InternalError",
                f"{type(error).__name__}; the log of {self._service} says more",
                after=_UNFORESEEN_AFTER,
            )
        finally:
            announcing.cancel()
            await asyncio.gather(announcing, return_exceptions=True)

    async def _announce_when_long(self, lane: Lane, run: Pass[Any]) -> None:
        await asyncio.sleep(self._timing.announce_after)
        if lane == "events":
            await run.announce("Progressing", "working on it", self._now())

    # ---- settling

    def _delay(self, event: ObjectEvent, outcome: Outcome | Interruption | None) -> float | None:
        if isinstance(outcome, Retryable):
            delay = self._backoff.failed(event.uid)
            if outcome.after is not None:
                delay = self._backoff.jitter(min(outcome.after, _LONGEST_AFTER).total_seconds())
            _log.info("%s: %s; again in %.1f s", outcome.reason, outcome.message, delay)
            return delay
        self._backoff.succeeded(event.uid)
        if isinstance(outcome, Interruption):
            kind = "stalled" if isinstance(outcome, Terminal) else "waiting"
            _log.info("%s, %s: %s", kind, outcome.reason, outcome.message)
        elif outcome is not None:
            _log.debug("reconciled")
        return None

    async def _settle(self, lane: Lane, msg: Msg, delay: float | None) -> None:
        """Ack, or put back. A resync message is always acked: its next turn comes by itself."""
        if delay is None or lane == "resync":
            await msg.ack()
        else:
            await msg.nak(delay=delay)

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
