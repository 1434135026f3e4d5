"""From an event to a reconciler and back: the one place that decides what a result means for status and message."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import aiohttp

from codecommon.api.meta import Workspace
from codecommon.api.reasons import Reason
from codecommon.api.results import Interruption, NotReady, Outcome, Ready, Released, Retryable, Terminal
from codecommon.controller.bindings import Staying
from codecommon.controller.context import Gone, ReconcileContext, Superseded
from codecommon.controller.metrics import RECONCILE_RESULTS, RECONCILE_SECONDS, RESYNC_PASSES
from codecommon.controller.reconciler import Controller
from codecommon.githost.job import Job, Urgency, working_on
from codecommon.kcp.client import JsonObject, Kcp, KcpError, NotFound
from codecommon.kcp.endpoints import KnownEndpoints, UnknownEndpoint
from codecommon.kcp.kubeconfig import KubeconfigError
from codecommon.messaging.events import Lane, ObjectEvent, Versions
from codecommon.process import logs
from codecommon.process.backoff import Backoff

_log = logging.getLogger(__name__)

_DECIDE_AGAIN: Final = 3
_LONGEST_AFTER: Final = timedelta(hours=1)
_UNFORESEEN_AFTER: Final = timedelta(seconds=30)
# A time that the host named is spread so that not all come back at once; a quarter of an hour on top of an hour helps nobody.
_MOST_SPREAD_SECONDS: Final = 30.0
_URGENCY: Final[Mapping[Lane, Urgency]] = {"events": "desired", "resync": "drift"}
# An object made under the name of one before is told of in an event of its own, which replaces what is left of those before.
_OWN_EVENT_WITHIN: Final = timedelta(seconds=5)
# The answers of kcp that say "not now", as opposed to "not so".
_KCP_UNAVAILABLE: Final = (aiohttp.ClientError, TimeoutError, KubeconfigError)


class Appointment(float):
    """Seconds until an object is to be looked at again in any case; kept on either lane."""


class Handler:
    """``announce_after``: seconds after which a pass that is still under way says so in status.

    ``resync``: how often the resync looks at each object, which is why nothing further off needs an appointment.
    """

    def __init__(
        self,
        service: str,
        controllers: tuple[Controller[Any], ...],
        *,
        kcp: Kcp,
        backoff: Backoff,
        announce_after: float,
        resync: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        self._service = service
        self._controllers = {c.kind.resource: c for c in controllers}
        self._kcp = kcp
        self._known = KnownEndpoints(kcp)
        self._staying = Staying()
        self._backoff = backoff
        self._announce_after = announce_after
        self._resync = max(resync, _LONGEST_AFTER)
        self._now = now

    async def handle(self, lane: Lane, event: ObjectEvent, reading: asyncio.Task[JsonObject | None]) -> float | None:
        """One pass over the object that ``reading`` (``read``) brings. None: done; otherwise seconds until it is due again."""
        controller = self._controllers[event.resource]
        started = time.monotonic()
        result = "Error"
        try:
            raw = await reading
            if raw is None:
                self._backoff.succeeded(event.uid)
                result = "Gone"
                return None
            if raw["metadata"]["uid"] != event.uid:
                if lane == "resync" or self._is_young(event):
                    result = "Replaced"
                    return None if lane == "resync" else Appointment(_OWN_EVENT_WITHIN.total_seconds())
                event = _about_another(event, raw)
            ctx = self._pass(controller, event, raw)
            if controller.due(ctx.object, self._now()):
                lane = "events"
            job = Job(_URGENCY[lane], event.uid, event.cluster)
            with logs.bind(generation=ctx.object.metadata.generation), working_on(job):
                outcome = await self._decide(lane, controller, ctx)
                result = type(outcome).__name__ if outcome is not None else "Gone"
                return self._delay(lane, event, outcome, half_done=ctx.half_done)
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

    def _pass(self, controller: Controller[Any], event: ObjectEvent, raw: JsonObject) -> ReconcileContext[Any]:
        objects = self._kcp.objects(Workspace(event.endpoint, event.cluster))
        return ReconcileContext(
            controller.kind,
            controller.parse,
            controller.owned,
            objects,
            raw,
            event.versions,
            event.possible_duplicates,
            event.time,
            self._staying,
            self._now,
        )

    def _is_young(self, event: ObjectEvent) -> bool:
        return event.time is not None and self._now() - event.time < _OWN_EVENT_WITHIN

    async def read(self, event: ObjectEvent) -> JsonObject | None:
        """The object at the event's version or later; None: there is none. Raises ``UnknownEndpoint``."""
        await self._known.require(event.endpoint)
        objects = self._kcp.objects(Workspace(event.endpoint, event.cluster))
        try:
            return await objects.get(event.resource, event.name, not_older=event.resource_version)
        except NotFound:
            return None

    async def _decide(
        self, lane: Lane, controller: Controller[Any], ctx: ReconcileContext[Any]
    ) -> Outcome | Interruption | None:
        """Reconcile and commit, deciding again when somebody else wrote in between. None: the object is gone."""
        try:
            for _ in range(_DECIDE_AGAIN):
                if ctx.object.deleting and not ctx.has_finalizer:
                    return Released()
                if ctx.object.paused and not ctx.object.deleting:
                    return Released()
                try:
                    if ctx.object.status.bound and not ctx.object.deleting:
                        # A finalizer that others took off (the portal replaces whole objects) comes back first of all.
                        await ctx.ensure_finalizer()
                    result = await self._reconcile(lane, controller, ctx)
                    if isinstance(result, Released):
                        await ctx.remove_finalizer()
                    elif lane == "events" or not isinstance(result, Retryable):
                        await ctx.commit(result)
                    elif ctx.learns_from(result):
                        # Any other drift pass that cannot be done now is nobody's concern until its next turn.
                        await ctx.commit(result)
                        ctx.half_done = True
                except Superseded:
                    await ctx.reload()
                else:
                    return result
        except Gone:
            return None
        return Retryable(Reason.CONFLICT, "the object is being written by others; trying again")

    async def _reconcile(
        self, lane: Lane, controller: Controller[Any], ctx: ReconcileContext[Any]
    ) -> Outcome | Interruption:
        over = asyncio.Event()
        announcing = asyncio.create_task(self._announce_when_long(lane, ctx, over))
        try:
            return await controller.reconciler.reconcile(ctx)
        except Interruption as interruption:
            return interruption
        except asyncio.CancelledError:
            announcing.cancel()
            raise
        except (Superseded, Gone, KcpError, *_KCP_UNAVAILABLE):
            raise
        except Exception as error:  # noqa: BLE001 - the top-level handler of a pass: what we do not understand is retryable
            _log.exception("reconciling failed")
            return Retryable(
                Reason.INTERNAL_ERROR,
                f"{type(error).__name__}; the log of {self._service} says more",
                after=_UNFORESEEN_AFTER,
            )
        finally:
            over.set()
            await asyncio.gather(announcing, return_exceptions=True)

    async def _announce_when_long(self, lane: Lane, ctx: ReconcileContext[Any], over: asyncio.Event) -> None:
        """A write that has begun is seen through: kcp would carry it out all the same, and the commit meet a conflict."""
        try:
            async with asyncio.timeout(self._announce_after):
                await over.wait()
        except TimeoutError:
            if lane == "events":
                await ctx.announce(Reason.PROGRESSING, "working on it")

    def _delay(
        self, lane: Lane, event: ObjectEvent, outcome: Outcome | Interruption | None, *, half_done: bool
    ) -> float | None:
        put_off = isinstance(outcome, Retryable) and not half_done
        if lane == "resync":
            RESYNC_PASSES.labels("put_off" if put_off else "done").inc()
        if isinstance(outcome, Retryable):
            if lane == "resync" and put_off:
                _log.info("%s: %s; again at its next turn", outcome.reason, outcome.message)
                return None
            delay = self._retry_in(event.uid, outcome)
            _log.info("%s: %s; again in %.1f s", outcome.reason, outcome.message, delay)
            return Appointment(delay)
        self._backoff.succeeded(event.uid)
        if isinstance(outcome, Interruption):
            kind = "stalled" if isinstance(outcome, Terminal) else "waiting"
            _log.info("%s, %s: %s", kind, outcome.reason, outcome.message)
        elif outcome is not None:
            _log.debug("reconciled")
        if (
            isinstance(outcome, Ready | NotReady)
            and outcome.requeue_after is not None
            and outcome.requeue_after <= self._resync
        ):
            return Appointment(max(outcome.requeue_after.total_seconds(), 1.0))
        return None

    def _retry_in(self, uid: str, outcome: Retryable) -> float:
        named = min(outcome.after, _LONGEST_AFTER).total_seconds() if outcome.after is not None else None
        if named is None:
            return self._backoff.failed(uid)
        # To be told a time is no failure: after a long outage the first hiccup must not put the object off for minutes.
        return named if outcome.exact else min(self._backoff.jitter(named), named + _MOST_SPREAD_SECONDS)


def _about_another(event: ObjectEvent, raw: JsonObject) -> ObjectEvent:
    """The event for the object that has the name by now: nothing is known of what that one depends on.

    What the event says of the one before would let this one use a Connection as it was then, to another account perhaps; and who
    sees this one Ready before the watcher has seen it must not make objects that are told of with the old Connection's version.
    """
    return replace(event, uid=raw["metadata"]["uid"], versions=Versions(), possible_duplicates=True, time=None)
