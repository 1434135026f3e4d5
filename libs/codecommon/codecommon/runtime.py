"""From a message to a reconciler and back: the one place that decides what a result means for status and message.

    fetch → decode → share of the workspace → mutex and lock → read the object → reconcile → commit → ack or nak

The result table is in docs/architecture.md. A message is acknowledged only after its status is written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
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
from codecommon.endpoints import KnownEndpoints
from codecommon.errors import Interruption, Retryable, Terminal
from codecommon.events import Lane, ObjectEvent, UndecodableEvent
from codecommon.fairness import Shares
from codecommon.kcp import JsonObject, Kcp, KcpError, NotFound
from codecommon.kubeconfig import KubeconfigError
from codecommon.metrics import RECONCILE_RESULTS, RECONCILE_SECONDS
from codecommon.outcome import Outcome, Released
from codecommon.passes import Gone, Pass, Superseded
from codecommon.strikes import Strikes

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=Resource[Any, Any])

_FETCH_SECONDS: Final = 2.0
_ANNOUNCE_AFTER_SECONDS: Final = 2.0
_DECIDE_AGAIN: Final = 3
_SET_ASIDE_SECONDS: Final = 600.0
_LONGEST_AFTER: Final = timedelta(hours=1)
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
    ) -> None:
        self._service = service
        self._controllers = {c.kind.resource: c for c in controllers}
        self._bus = bus
        self._kcp = kcp
        self._now = now
        self._known = KnownEndpoints(kcp)
        self._limits: dict[Lane, int] = {"events": max_in_flight, "resync": max(1, max_in_flight // 4)}
        self._shares = Shares(max_per_workspace)
        self._backoff = Backoff()
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
            while any(self._in_flight.values()):
                await self._slot_change()
            heartbeat.cancel()

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
            if not self._has_room(lane):
                await self._slot_change()
                continue
            msg = await bus_module.fetch_one(subscription, _FETCH_SECONDS)
            if msg is None:
                continue
            if stopping.is_set():
                await msg.nak()
                return
            self._start(lane, msg, lock_bucket, strikes, group)

    def _has_room(self, lane: Lane) -> bool:
        """Drift gets a quarter of the slots at most, and only those that nothing else wants."""
        total = sum(len(entries) for entries in self._in_flight.values())
        return total < self._limits["events"] and len(self._in_flight[lane]) < self._limits[lane]

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
            await asyncio.sleep(locks.RENEW_SECONDS)
            for entries in self._in_flight.values():
                for entry in list(entries):
                    if entry.lock is not None and entry.lock.lost and entry.task is not None:
                        _log.warning("lost the lock of an object at work; its handler is stopped")
                        entry.task.cancel("lock lost")
                        continue
                    try:
                        await entry.msg.in_progress()
                        if entry.lock is not None:
                            await entry.lock.renew()
                    except (NatsError, TimeoutError):
                        continue

    # ---- one message

    async def _handle(self, lane: Lane, entry: _InFlight, lock_bucket: KeyValue, strikes: Strikes) -> None:
        msg = entry.msg
        try:
            event = ObjectEvent.decode(msg.data)
        except UndecodableEvent as error:
            await self._bus.bury(msg, str(error))
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
            strike = await strikes.before(msg, event)
            if strike.out:
                _log.error(
                    "handling this object ended its process %d times; it is set aside for %d s",
                    strike.count,
                    _SET_ASIDE_SECONDS,
                )
                await self._settle(lane, msg, _SET_ASIDE_SECONDS)
                return
            delay = await self._exclusively(entry, event, lock_bucket)
            await self._settle(lane, msg, delay)
            await strike.clear()

    async def _exclusively(self, entry: _InFlight, event: ObjectEvent, lock_bucket: KeyValue) -> float | None:
        """Handle under the object's mutex and lock. Returns None for ack, or the seconds after which to deliver again."""
        key = entry.msg.subject.split(".", 2)[2]
        async with self._mutex.hold(key):
            try:
                lock = await locks.acquire(lock_bucket, key)
            except locks.Taken:
                return self._lock_backoff.failed(key)
            except (NatsError, TimeoutError):
                return self._backoff.failed(event.uid)
            self._lock_backoff.succeeded(key)
            entry.lock = lock
            try:
                return await self._object(event)
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if not lock.lost or current is None:
                    raise
                current.uncancel()
                return self._backoff.failed(event.uid)
            finally:
                await lock.release()

    async def _object(self, event: ObjectEvent) -> float | None:
        controller = self._controllers[event.resource]
        started = time.monotonic()
        result = "Error"
        try:
            if not await self._known.knows(event.endpoint):
                _log.warning("the event names an endpoint that is not in the endpoint slice")
                result = "UnknownEndpoint"
                return self._backoff.failed(event.uid)
            raw = await self._read(event)
            if raw is None:
                self._backoff.succeeded(event.uid)
                result = "Gone"
                return None
            run = self._pass(controller, event, raw)
            with logs.bind(generation=run.object.metadata.generation):
                outcome = await self._decide(controller, run)
                result = type(outcome).__name__ if outcome is not None else "Gone"
                return self._delay(event, outcome)
        except _KCP_UNAVAILABLE as error:
            _log.warning("kcp cannot be reached now: %s", type(error).__name__)
            return self._backoff.failed(event.uid)
        except KcpError as error:
            _log.warning("kcp refused: %s", error)
            return max(self._backoff.failed(event.uid), error.retry_after or 0)
        finally:
            RECONCILE_RESULTS.labels(controller.kind.kind, result).inc()
            RECONCILE_SECONDS.labels(controller.kind.kind).observe(time.monotonic() - started)

    def _pass(self, controller: Controller[Any], event: ObjectEvent, raw: JsonObject) -> Pass[Any]:
        objects = self._kcp.objects(Workspace(event.endpoint, event.cluster))
        return Pass(controller.kind, controller.parse, controller.owned, objects, raw, event.versions)

    async def _read(self, event: ObjectEvent) -> JsonObject | None:
        objects = self._kcp.objects(Workspace(event.endpoint, event.cluster))
        try:
            return await objects.get(event.resource, event.name, not_older=event.resource_version)
        except NotFound:
            return None

    async def _decide(self, controller: Controller[Any], run: Pass[Any]) -> Outcome | Interruption | None:
        """Reconcile and commit, deciding again when somebody else wrote in between. None: the object is gone."""
        try:
            for _ in range(_DECIDE_AGAIN):
                if run.object.deleting and not run.held:
                    return Released()
                if run.object.paused and not run.object.deleting:
                    return Released()
                try:
                    result = await self._reconcile(controller, run)
                    if isinstance(result, Released):
                        await run.release()
                    else:
                        await run.commit(result, self._now())
                except Superseded:
                    await run.reload()
                else:
                    return result
        except Gone:
            return None
        return Retryable("Conflict", "the object is being written by others; trying again")

    async def _reconcile(self, controller: Controller[Any], run: Pass[Any]) -> Outcome | Interruption:
        announcing = asyncio.create_task(self._announce_when_long(run))
        try:
            return await controller.reconciler.reconcile(run)
        except Interruption as interruption:
            return interruption
        except (Superseded, Gone, KcpError, *_KCP_UNAVAILABLE):
            raise
        except Exception as error:  # noqa: BLE001 - the top-level handler of a pass: what we do not understand is retryable
            _log.exception("reconciling failed")
            return Retryable("InternalError", f"{type(error).__name__}; the log of {self._service} says more")
        finally:
            announcing.cancel()
            await asyncio.gather(announcing, return_exceptions=True)

    async def _announce_when_long(self, run: Pass[Any]) -> None:
        await asyncio.sleep(_ANNOUNCE_AFTER_SECONDS)
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
        try:
            if delay is None or lane == "resync":
                await msg.ack()
            else:
                await msg.nak(delay=delay)
        except (NatsError, TimeoutError):
            # Unsettled: delivered again after ack_wait, and handling twice is safe.
            _log.warning("could not settle a message")
