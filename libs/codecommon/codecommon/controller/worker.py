"""One message about an object: read it while the lock is on its way, reconcile it (decide, act, write), settle.

docs/architecture.md has the table of what a result means for status and message.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson
from nats.js.kv import KeyValue

from codecommon.api.meta import Condition, Resource, Workspace
from codecommon.api.reasons import Reason
from codecommon.api.results import NotReady, Ready, Retryable, Terminal, Unchanged
from codecommon.controller.bindings import BoundWorkspaces, is_leaving
from codecommon.controller.context import Gone, Hints, ReconcileContext, Superseded
from codecommon.controller.delivery import Ack, Delivery, PutBack, Settlement
from codecommon.controller.message_worker import MessageWorker, WorkerTiming
from codecommon.controller.metrics import RECONCILE_RESULTS, RECONCILE_SECONDS, RESYNC_PASSES
from codecommon.controller.ownership import Ownership
from codecommon.controller.reconcile import KCP_UNAVAILABLE, Reconciled, Skipped, reconcile
from codecommon.controller.reconciler import Controller
from codecommon.githost.job import Job, Urgency, working_on
from codecommon.githost.protocol import HostBusy
from codecommon.kcp.client import JsonObject, KcpError, NotFound, ProviderKcp
from codecommon.kcp.endpoints import UnknownEndpoint
from codecommon.messaging.bus import Bus
from codecommon.messaging.events import Lane, ObjectEvent, Versions, subject
from codecommon.messaging.poison_messages import Attempt, PoisonMessages
from codecommon.process import logs
from codecommon.process.backoff import Backoff

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
_URGENCY: Final[Mapping[Lane, Urgency]] = {"events": "desired", "resync": "drift"}


class _Found(NamedTuple):
    """An object; ``raw`` None: there is none. ``copy``: what ``raw`` says, where it came with the event instead of from kcp."""

    raw: JsonObject | None
    copy: Resource[Any, Any] | None = None


class Worker(MessageWorker[asyncio.Task[_Found]]):
    """Reconciles the objects of one service.

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
        super().__init__(
            service,
            bus=bus,
            kcp=kcp,
            locks=locks,
            poison=poison,
            max_per_workspace=max_per_workspace,
            timing=timing,
            backoff=backoff,
            keep=False,
        )
        for passes in ("done", "put_off"):
            # At 0 from the start: without a "done" there would be nothing to divide by, and no alert.
            RESYNC_PASSES.labels(passes)
        self._controllers = {controller.kind.resource: controller for controller in controllers}
        self._bound = BoundWorkspaces()
        self._ownership = ownership
        self._longest_requeue = max(resync, _LONGEST_AFTER)
        self._now = now

    # ---- what the frame asks

    def _kind_of(self, event: ObjectEvent) -> str:
        return self._controllers[event.resource].kind.kind

    def _lock_key(self, event: ObjectEvent) -> str:
        return subject(event.lane, event.resource, event.cluster, event.name).split(".", 2)[2]

    def _identity(self, event: ObjectEvent) -> str:
        return event.uid

    @asynccontextmanager
    async def _prepared(
        self, delivery: Delivery, event: ObjectEvent, attempt: Attempt
    ) -> AsyncIterator[asyncio.Task[_Found]]:
        """The object is read. If that was a moment too early, a guarded write meets a conflict."""
        reading = asyncio.create_task(self._read(delivery, event, attempt))
        try:
            yield reading
        finally:
            await _abandon(reading)

    async def _is_spared(self, event: ObjectEvent, prepared: asyncio.Task[_Found]) -> bool:
        """Whether the object is being deleted with its workspace, which waits for it. False when kcp cannot say so now."""
        try:
            raw = (await prepared).raw
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
        if (found := self._copy(delivery, event)) is not None:
            return found
        objects = self._kcp.objects(Workspace(event.endpoint, event.cluster))
        try:
            return _Found(await objects.get(event.resource, event.name, not_older=event.resource_version))
        except NotFound:
            return _Found(None)

    def _copy(self, delivery: Delivery, event: ObjectEvent) -> _Found | None:
        """The event's copy of the object, where a decision may begin with it. None: the object is read."""
        is_first = delivery.lane == "events" and delivery.msg.metadata.num_delivered == 1
        if not event.copy or event.seen_at is None or not is_first or abs(self._now() - event.seen_at) > _COPY_WITHIN:
            return None
        raw: JsonObject = orjson.loads(event.copy)
        try:
            model = self._controllers[event.resource].kind.model
            return _Found(raw, model.parse(raw, Workspace(event.endpoint, event.cluster)))
        except (KeyError, TypeError, ValueError, AttributeError):
            # Only kcp can say that the object is of such a shape.
            return None

    async def _handle(self, delivery: Delivery, event: ObjectEvent, prepared: asyncio.Task[_Found]) -> Settlement:
        """Reconcile what was read."""
        controller = self._controllers[event.resource]
        with _measured(controller.kind.kind) as measure:
            raw, copy = await prepared
            if raw is None:
                measure.result = "Gone"
                self._backoff.succeeded(event.uid)
                return Ack()
            if raw["metadata"]["uid"] != event.uid:
                measure.result = "Replaced"
                if delivery.lane == "resync" or event.finding is not None:
                    return Ack()
                if event.time is not None and self._now() - event.time < _OWN_EVENT_WITHIN:
                    return PutBack(_OWN_EVENT_WITHIN.total_seconds())
                measure.result = "Error"
                event = _about_another(event, raw)
            done, settlement = await self._reconcile_object(controller, delivery, event, raw, copy)
            measure.result = done.name
            return settlement

    async def _reconcile_object(
        self,
        controller: Controller[Any],
        delivery: Delivery,
        event: ObjectEvent,
        raw: JsonObject,
        copy: Resource[Any, Any] | None,
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
            is_copy=copy is not None,
            parsed=copy,
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
        requeue_after = done.result.requeue_after if isinstance(done.result, Ready | NotReady | Unchanged) else None
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
    except UnknownEndpoint:
        measure.result = "UnknownEndpoint"
        raise
    finally:
        RECONCILE_RESULTS.labels(kind, measure.result).inc()
        RECONCILE_SECONDS.labels(kind).observe(time.monotonic() - started)


async def _abandon(task: asyncio.Task[Any]) -> None:
    """Let a task end that nobody waits for any more, whatever it ends with."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
