"""One message, from its event to its answer.

    decode → share of the workspace → lock and read → reconcile (decide, act, write) → settle

docs/architecture.md has the table of what a result means for status and message.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson
from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

from codecommon.api.meta import Condition, Workspace
from codecommon.api.reasons import Reason
from codecommon.api.results import NotReady, Ready, Retryable, Terminal
from codecommon.controller.bindings import BoundWorkspaces, is_leaving
from codecommon.controller.context import Gone, Hints, ReconcileContext, Superseded
from codecommon.controller.delivery import Ack, Delivery, PutBack, Settlement
from codecommon.controller.fairness import Shares
from codecommon.controller.metrics import MESSAGES_SET_ASIDE, RECONCILE_RESULTS, RECONCILE_SECONDS, RESYNC_PASSES
from codecommon.controller.ownership import Ownership
from codecommon.controller.reconcile import (
    ANNOUNCE_AFTER_SECONDS,
    KCP_UNAVAILABLE,
    UNFORESEEN_AFTER,
    Reconciled,
    Skipped,
    reconcile,
)
from codecommon.controller.reconciler import Controller
from codecommon.githost.job import Job, Urgency, working_on
from codecommon.githost.protocol import HostBusy
from codecommon.kcp.client import JsonObject, KcpError, NotFound, ProviderKcp
from codecommon.kcp.endpoints import KnownEndpoints, UnknownEndpoint
from codecommon.messaging import tracing
from codecommon.messaging.bus import Bus
from codecommon.messaging.events import Lane, ObjectEvent, UndecodableEvent, Versions, subject
from codecommon.messaging.locks import LOST_AFTER_SECONDS, LockLost, LockTaken
from codecommon.messaging.poison_messages import Attempt, PoisonMessages
from codecommon.process import logs
from codecommon.process.backoff import Backoff
from codecommon.process.mutex import KeyedMutex

_log = logging.getLogger(__name__)

_LONGEST_AFTER: Final = timedelta(hours=1)
# A time that the host named is spread, so that not all come back at once. More than this on top of it helps nobody.
_MOST_SPREAD_SECONDS: Final = 30.0
_SHORTEST_REQUEUE_SECONDS: Final = 1.0
# What should be over by then may begin anew each time. The next resync comes anyway.
_MOST_DRIFT_DELIVERIES: Final = 4
# A new object of the same name gets its own event within this time. That event replaces the message of the old object.
_OWN_EVENT_WITHIN: Final = timedelta(seconds=5)
_COPY_WITHIN: Final = timedelta(seconds=30)
"""No decision begins with an older copy. It would do no harm, and would more likely be for nothing.

In a burst a message waits for half a minute. A change of its object meanwhile would have replaced it.
"""
_FORBIDDEN: Final = 403
_URGENCY: Final[Mapping[Lane, Urgency]] = {"events": "desired", "resync": "drift"}


@dataclass(frozen=True, slots=True)
class WorkerTiming:
    """In seconds. ``announce_after``: an object that takes longer says so in status. ``lost_after``: when a lock
    that could not be renewed counts as lost. ``set_aside``: how long a poison message rests. ``warn_from``: the pause
    from which on kcp's 403 is worth a warning. The watcher purges the messages of a workspace that is gone before that.
    """

    announce_after: float = ANNOUNCE_AFTER_SECONDS
    lost_after: float = LOST_AFTER_SECONDS
    set_aside: float = 600.0
    warn_from: float = 16.0


class _Found(NamedTuple):
    """An object; ``raw`` None: there is none. ``is_copy``: it came with the event and was not read from kcp."""

    raw: JsonObject | None
    is_copy: bool = False


class Worker:
    """Works on the deliveries of one service.

    ``locks``: the bucket with the objects' locks. ``resync``: how often the resync looks at each object, which is why a
    time that is further off needs no message. ``now``: the time of day, UTC.
    """

    def __init__(
        self,
        service: str,
        controllers: tuple[Controller[Any], ...],
        *,
        bus: Bus,
        kcp: ProviderKcp,
        locks: KeyValue,
        poison: PoisonMessages,
        ownership: Ownership,
        max_per_workspace: int,
        resync: timedelta,
        now: Callable[[], datetime],
        timing: WorkerTiming,
        backoff: Backoff,
    ) -> None:
        self._service = service
        self._controllers = {controller.kind.resource: controller for controller in controllers}
        self._bus = bus
        self._kcp = kcp
        self._endpoints = KnownEndpoints(kcp)
        self._bound = BoundWorkspaces()
        self._shares = Shares(max_per_workspace)
        self._mutex = KeyedMutex()
        self._locks = locks
        self._replica = uuid.uuid4().hex
        self._poison = poison
        self._ownership = ownership
        self._longest_requeue = max(resync, _LONGEST_AFTER)
        self._now = now
        self._timing = timing
        self._backoff = backoff
        self._lock_backoff = Backoff(0.25, 5.0)
        self._warnings = logs.Repeated(_log)

    async def work(self, delivery: Delivery) -> None:
        """Work on the message and settle it. A message that could not be settled is delivered again, which is safe."""
        try:
            event = await self._decode(delivery)
            if event is None:
                return
            over_share = self._shares.delay(event.cluster)
            if over_share is not None:
                await delivery.settle(PutBack(over_share, helps=True))
                return
            kind = self._controllers[event.resource].kind.kind
            with (
                self._shares.running(event.cluster),
                logs.bind(kind=kind, cluster=event.cluster, name=event.name),
                tracing.consume(delivery.msg, event),
            ):
                await delivery.settle(await self._exclusively(delivery, event))
        except (NatsError, TimeoutError) as error:
            cause = type(error).__name__
            self._warnings.warning(f"NATS {cause}", "NATS does not answer: %s", cause)

    async def _decode(self, delivery: Delivery) -> ObjectEvent | None:
        """The event; None: it is none of ours, and people find it in ``CODE_DEAD``."""
        try:
            event = ObjectEvent.decode(delivery.msg.data)
            if event.subject != delivery.msg.subject:
                raise UndecodableEvent("its subject is that of another object")
        except UndecodableEvent as error:
            await self._bus.bury(delivery.msg, str(error))
            MESSAGES_SET_ASIDE.labels(self._service, "undecodable").inc()
            return None
        return event

    async def _exclusively(self, delivery: Delivery, event: ObjectEvent) -> Settlement:
        """Reconcile the object while nobody else does, in this process or in another replica."""
        key = subject(event.lane, event.resource, event.cluster, event.name).split(".", 2)[2]
        async with self._mutex.hold(key):
            attempt = self._poison.attempt(delivery.msg, event, self._replica)
            # Read while the lock is on its way. If that was a moment too early, a guarded write meets a conflict.
            reading = asyncio.create_task(self._read(delivery, event, attempt))
            try:
                async with delivery.locked(self._locks, key, self._replica, self._timing.lost_after):
                    self._lock_backoff.succeeded(key)
                    if await attempt.begin() and not await self._is_deleted_with_workspace(event, reading):
                        settlement: Settlement = self._set_aside(attempt)
                    else:
                        settlement = await self._reconcile(delivery, event, reading)
                    # Before the lock is free: the next replica that gets it would take our note for a death.
                    await attempt.over()
                    return settlement
            except LockTaken:
                return PutBack(self._lock_backoff.failed(key))
            except (LockLost, NatsError, TimeoutError):
                await attempt.over()
                return PutBack(self._backoff.failed(event.uid))
            finally:
                await _abandon(reading)

    def _set_aside(self, attempt: Attempt) -> PutBack:
        rest = self._timing.set_aside
        _log.error(
            "handling this object ended its process at least %d times; it is set aside for %d s", attempt.deaths, rest
        )
        MESSAGES_SET_ASIDE.labels(self._service, "poison").inc()
        return PutBack(rest)

    async def _is_deleted_with_workspace(self, event: ObjectEvent, reading: asyncio.Task[_Found]) -> bool:
        """Whether the object is being deleted with its workspace, which waits for it. False when kcp cannot say so now."""
        try:
            raw = (await reading).raw
            if raw is None or not raw["metadata"].get("deletionTimestamp"):
                return False
            return await is_leaving(self._kcp.objects(Workspace(event.endpoint, event.cluster)))
        except (UnknownEndpoint, Retryable, KcpError, *KCP_UNAVAILABLE):
            return False

    async def _read(self, delivery: Delivery, event: ObjectEvent, attempt: Attempt) -> _Found:
        """The object at the event's version or later. Raises ``UnknownEndpoint``."""
        # An object that ends the process which reads it must not do so before that is noted.
        await attempt.noted.wait()
        await self._endpoints.require(event.endpoint)
        if (copy := self._copy(delivery, event)) is not None:
            return _Found(copy, is_copy=True)
        objects = self._kcp.objects(Workspace(event.endpoint, event.cluster))
        try:
            return _Found(await objects.get(event.resource, event.name, not_older=event.resource_version))
        except NotFound:
            return _Found(None)

    def _copy(self, delivery: Delivery, event: ObjectEvent) -> JsonObject | None:
        """The event's copy of the object, where a decision may begin with it. None: the object is read."""
        is_first = delivery.lane == "events" and delivery.msg.metadata.num_delivered == 1
        if not event.copy or event.seen_at is None or not is_first or abs(self._now() - event.seen_at) > _COPY_WITHIN:
            return None
        raw: JsonObject = orjson.loads(event.copy)
        try:
            self._controllers[event.resource].kind.model.parse(raw, Workspace(event.endpoint, event.cluster))
        except (KeyError, TypeError, ValueError, AttributeError):
            # Only kcp can say that the object is of such a shape.
            return None
        return raw

    async def _reconcile(self, delivery: Delivery, event: ObjectEvent, reading: asyncio.Task[_Found]) -> Settlement:
        """Reconcile what ``reading`` brings. Never raises an error: whatever goes wrong becomes a settlement."""
        lane = delivery.lane
        controller = self._controllers[event.resource]
        with _measured(controller.kind.kind) as measure:
            try:
                raw, is_copy = await reading
                if raw is None:
                    measure.result = "Gone"
                    self._backoff.succeeded(event.uid)
                    return Ack()
                if raw["metadata"]["uid"] != event.uid:
                    measure.result = "Replaced"
                    if lane == "resync" or event.finding is not None:
                        return Ack()
                    if event.time is not None and self._now() - event.time < _OWN_EVENT_WITHIN:
                        return PutBack(_OWN_EVENT_WITHIN.total_seconds())
                    measure.result = "Error"
                    event = _about_another(event, raw)
                done, settlement = await self._reconcile_object(controller, delivery, event, raw, is_copy=is_copy)
                measure.result = done.name
                self._backoff.succeeded(_forbidden(event))
                return settlement
            except UnknownEndpoint:
                # The shard is gone. Whoever watches the object now publishes it with an endpoint that is there.
                _log.warning("the event names an endpoint that is not in the endpoint slice; it is dropped")
                measure.result = "UnknownEndpoint"
                return Ack()
            except KCP_UNAVAILABLE as error:
                cause = type(error).__name__
                self._warnings.warning(f"kcp {cause}", "kcp cannot be reached now: %s", cause)
                return PutBack(self._backoff.failed(event.uid))
            except KcpError as error:
                if error.status == _FORBIDDEN:
                    return await self._when_forbidden(delivery, event, error)
                # The message names the object.
                self._warnings.warning(f"kcp {error.status} {error.reason}", "kcp refused: %s", error)
                return PutBack(max(self._backoff.failed(event.uid), error.retry_after or 0))
            except Exception:  # noqa: BLE001 - the top-level handler of a message: an object that no model fits must not end the process
                _log.exception("handling failed")
                return PutBack(self._backoff.jitter(UNFORESEEN_AFTER.total_seconds()))

    async def _when_forbidden(self, delivery: Delivery, event: ObjectEvent, error: KcpError) -> Settlement:
        """kcp forbids what it would allow in a bound workspace, or the workspace is gone. It says the same in both cases.

        The watcher knows which workspaces are gone, and purges their messages. What is not purged soon is for a person to see.
        With the last workspace of a shard kcp takes back the endpoint. Then there is nobody to purge them.
        """
        if not await self._bus.is_stored(delivery.msg) or not await self._is_listed(event.endpoint):
            _log.debug("the workspace is gone, or a newer event has replaced this one: %s", error)
            self._backoff.succeeded(_forbidden(event))
            return Ack()
        delay = self._backoff.failed(_forbidden(event))
        if delay >= self._timing.warn_from:
            self._warnings.warning(f"kcp {error.status} {error.reason}", "kcp refused: %s", error)
        else:
            _log.info("kcp refused: %s", error)
        return PutBack(max(delay, error.retry_after or 0))

    async def _is_listed(self, endpoint: str) -> bool:
        """Whether kcp lists the endpoint now; also when it cannot say so."""
        try:
            await self._endpoints.require(endpoint, live=True)
        except UnknownEndpoint:
            return False
        except (KcpError, *KCP_UNAVAILABLE):
            pass
        return True

    async def _reconcile_object(
        self, controller: Controller[Any], delivery: Delivery, event: ObjectEvent, raw: JsonObject, *, is_copy: bool
    ) -> tuple[Reconciled, Settlement]:
        lane = delivery.lane
        ctx = ReconcileContext(
            controller.kind,
            controller.owned,
            self._kcp.objects(Workspace(event.endpoint, event.cluster)),
            raw,
            Hints(event.versions, event.possible_duplicates, event.time),
            self._bound,
            self._now,
            is_copy=is_copy,
            ownership=self._ownership,
        )
        if event.finding is not None:
            return await self._learn(controller, ctx, event.finding)
        if controller.is_due(ctx.object, ctx.now):
            # It is worked on as if it had changed, whichever lane its message is on.
            lane = "events"
        job = Job(_URGENCY[lane], event.uid, event.cluster)
        with logs.bind(generation=ctx.object.metadata.generation), working_on(job):
            done = await reconcile(
                controller, ctx, is_drift=lane == "resync", announce_after=self._timing.announce_after
            )
            return done, self._settlement(lane, event.uid, done, delivery.msg.metadata.num_delivered)

    async def _learn(
        self, controller: Controller[Any], ctx: ReconcileContext[Any], finding: Condition
    ) -> tuple[Reconciled, Settlement]:
        """Write down what another service has found out. The host is not asked."""
        if ctx.object.deleting or ctx.object.paused:
            return Reconciled(Skipped()), Ack()
        try:
            await ctx.learn(lambda obj: controller.learn(obj, finding))
        except Gone:
            return Reconciled(None), Ack()
        except Superseded:
            busy = Retryable(Reason.CONFLICT, "the object is being written by others; trying again")
            return Reconciled(busy), PutBack(self._backoff.failed(ctx.object.metadata.uid))
        return Reconciled(Ready()), Ack()

    def _settlement(self, lane: Lane, uid: str, done: Reconciled, deliveries: int) -> Settlement:
        """What a result means for the message, which was delivered ``deliveries`` times."""
        if done.put_off and isinstance(done.result, Retryable) and deliveries < _MOST_DRIFT_DELIVERIES:
            drift_after = done.result.drift_after
            if lane == "resync" and drift_after is not None:
                _log.debug("%s; compared again soon", done.result.message)
                return PutBack(self._backoff.jitter(drift_after.total_seconds()), keep=True)
        if lane == "resync":
            RESYNC_PASSES.labels("put_off" if done.put_off else "done").inc()
        match done.result:
            case HostBusy() as result:
                delay = self._retry_in(uid, result)
                _log.debug("no turn at the host; again in %.1f s", delay)
                return PutBack(delay, keep=not done.put_off)
            case Retryable() as result if done.put_off:
                _log.info("%s: %s; again at its next turn", result.reason, result.message)
                return Ack()
            case Retryable() as result:
                delay = self._retry_in(uid, result)
                _log.info("%s: %s; again in %.1f s", result.reason, result.message, delay)
                return PutBack(delay, keep=True)
            case Terminal() as result:
                _log.info("stalled, %s: %s", result.reason, result.message)
            case NotReady() as result:
                _log.info("waiting, %s: %s", result.reason, result.message)
            case _:
                _log.debug("reconciled")
        self._backoff.succeeded(uid)
        requeue_after = done.result.requeue_after if isinstance(done.result, Ready | NotReady) else None
        if requeue_after is None or requeue_after > self._longest_requeue:
            return Ack()
        return PutBack(max(requeue_after.total_seconds(), _SHORTEST_REQUEUE_SECONDS), keep=True)

    def _retry_in(self, uid: str, result: Retryable) -> float:
        if result.after is None:
            return self._backoff.failed(uid)
        # To be given a time is no failure: the first hiccup after a long outage must not put the object off for
        # minutes.
        named = min(result.after, _LONGEST_AFTER).total_seconds()
        return named if result.exact else min(self._backoff.jitter(named), named + _MOST_SPREAD_SECONDS)


def _forbidden(event: ObjectEvent) -> str:
    """The key of an object's back-off after a 403. What failed before must not hide how long kcp has forbidden it."""
    return f"{event.uid} forbidden"


def _about_another(event: ObjectEvent, raw: JsonObject) -> ObjectEvent:
    """The event for the object that has the name by now, of whose dependencies nothing is known.

    The versions in the event speak of the object before. With them this one could use a Connection as it was then,
    perhaps to another account.
    """
    return replace(event, uid=raw["metadata"]["uid"], versions=Versions(), possible_duplicates=True, time=None)


@dataclass(slots=True)
class _Measure:
    result: str = "Error"


@contextmanager
def _measured(kind: str) -> Iterator[_Measure]:
    measure, started = _Measure(), time.monotonic()
    try:
        yield measure
    finally:
        RECONCILE_RESULTS.labels(kind, measure.result).inc()
        RECONCILE_SECONDS.labels(kind).observe(time.monotonic() - started)


async def _abandon(task: asyncio.Task[Any]) -> None:
    """Let a task end that nobody waits for any more, whatever it ends with."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
