"""Events to NATS: the newest one of each subject, one at a time, until it is acknowledged."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, NoReturn, Protocol

from opentelemetry import trace

from codecommon.messaging.bus import BusUnavailable, raise_if_cancelled
from codecommon.messaging.events import ObjectEvent
from codecommon.process.backoff import Backoff
from watcher.metrics import PENDING, PUBLISH_RETRIES, PUBLISHED

_log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS: Final = 0.1
# A publish that fails has waited for an acknowledgement already; longer pauses would only delay the first event after an outage.
_LONGEST_RETRY_SECONDS: Final = 1.0


class Bus(Protocol):
    async def publish(self, event: ObjectEvent) -> None:
        """Returns after the acknowledgement; raises ``BusUnavailable``."""
        ...


class Publisher:
    """Holds the newest event of each subject until NATS acknowledged it.

    ``offer`` takes an event at any time; ``run`` publishes while it runs, and what it leaves behind when it is cancelled is
    published by the next ``run``.
    """

    def __init__(self, bus: Bus, concurrency: int) -> None:
        self._bus = bus
        self._concurrency = concurrency
        self._newest: dict[str, ObjectEvent] = {}
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._queued: set[str] = set()
        self._backoff = Backoff(_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS)

    def offer(self, event: ObjectEvent) -> None:
        """Publish ``event``, in place of an older one of its subject that has not been sent."""
        subject = event.subject
        self._newest[subject] = event
        if subject not in self._queued:
            self._queued.add(subject)
            self._ready.put_nowait(subject)
            PENDING.inc()

    @property
    def pending(self) -> int:
        """Subjects with an event that is not acknowledged."""
        return len(self._queued)

    def discard(self) -> None:
        """Forget what is not published: another replica has taken over and told it in its own way."""
        PENDING.dec(self.pending)
        self._newest.clear()
        self._queued.clear()
        self._ready = asyncio.Queue()

    async def run(self) -> NoReturn:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._work(), name="publish")
        raise AssertionError("workers do not return")

    async def _work(self) -> NoReturn:
        while True:
            subject = await self._ready.get()
            try:
                await self._drain(subject)
            except asyncio.CancelledError:
                self._ready.put_nowait(subject)
                raise
            self._queued.discard(subject)
            PENDING.dec()
            raise_if_cancelled()

    async def _drain(self, subject: str) -> None:
        """Publish the newest event of ``subject`` until there is no newer one."""
        while (event := self._newest.get(subject)) is not None:
            try:
                await self._publish(event)
            except BusUnavailable as error:
                PUBLISH_RETRIES.inc()
                delay = self._backoff.failed(subject)
                _log.debug("NATS did not acknowledge an event (%s); again in %.1f s", error, delay)
                raise_if_cancelled()
                await asyncio.sleep(delay)
                continue
            self._backoff.succeeded(subject)
            PUBLISHED.labels(event.resource, event.reason).inc()
            if self._newest[subject] is event:
                del self._newest[subject]

    async def _publish(self, event: ObjectEvent) -> None:
        with trace.get_tracer("watcher").start_as_current_span(
            f"publish {event.resource}",
            kind=trace.SpanKind.PRODUCER,
            attributes={
                "messaging.system": "nats",
                "messaging.destination.name": event.subject,
                "kedge.kind": event.resource,
                "kedge.cluster": event.cluster,
                "kedge.name": event.name,
                "kedge.generation": event.generation,
                "kedge.reason": event.reason,
            },
        ):
            await self._bus.publish(event)
