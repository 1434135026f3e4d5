"""Publishes events to NATS until each is acknowledged.

``Publisher`` is a work queue keyed by subject, with several workers. Only one worker at a time publishes for a subject, so the
events of one object stay in order. A newer event replaces an older one that has not been sent: NATS keeps one message per
subject anyway.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final, NoReturn, Protocol

from opentelemetry import trace

from codecommon.messaging.bus import BusUnavailable, raise_if_cancelled
from codecommon.messaging.events import ObjectEvent
from codecommon.process.backoff import Backoff
from watcher.metrics import PENDING, PUBLISH_RETRIES, PUBLISHED

_log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS: Final = 0.1
# A failed publish has already waited for its acknowledgement. A longer pause would only delay the first event after an outage.
_LONGEST_RETRY_SECONDS: Final = 1.0

MOST_COPY_BYTES: Final = 16 << 20
"""The copies of objects that wait for NATS. While more wait, events go without: the services read those objects."""


class Bus(Protocol):
    async def publish(self, event: ObjectEvent) -> None:
        """Returns once NATS has acknowledged the event. Raises ``BusUnavailable``."""
        ...


class Publisher:
    """Holds the newest event of each subject until NATS has acknowledged it.

    ``enqueue`` takes an event at any time. ``run`` publishes; the next ``run`` publishes what a cancelled one left behind.
    ``concurrency``: the number of workers.
    """

    def __init__(self, bus: Bus, concurrency: int) -> None:
        self._bus = bus
        self._concurrency = concurrency
        self._newest: dict[str, ObjectEvent] = {}
        self._copy_bytes = 0
        """The length of all copies in ``_newest``."""
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        """Subjects that wait for a worker."""
        self._pending: set[str] = set()
        """Subjects in the queue or with a worker."""
        self._backoff = Backoff(_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS)

    def enqueue(self, event: ObjectEvent) -> None:
        """Publish ``event``. It replaces an older event of its subject that has not been sent."""
        subject = event.subject
        self._forget(subject)
        if self._copy_bytes + len(event.copy) > MOST_COPY_BYTES:
            event = replace(event, copy=b"", seen_at=None)
        self._newest[subject] = event
        self._copy_bytes += len(event.copy)
        if subject not in self._pending:
            self._pending.add(subject)
            self._queue.put_nowait(subject)
            PENDING.inc()

    @property
    def pending(self) -> int:
        """The number of subjects with an event that NATS has not acknowledged."""
        return len(self._pending)

    def drop(self, cluster: str) -> None:
        """Drop the pending events of one cluster. One that is being published may still be stored."""
        for subject in [subject for subject, event in self._newest.items() if event.cluster == cluster]:
            self._forget(subject)

    def discard(self) -> None:
        """Drop every pending event: another replica has taken over and publishes its own."""
        PENDING.dec(self.pending)
        self._newest.clear()
        self._copy_bytes = 0
        self._pending.clear()
        self._queue = asyncio.Queue()

    def _forget(self, subject: str) -> None:
        event = self._newest.pop(subject, None)
        if event is not None:
            self._copy_bytes -= len(event.copy)

    async def run(self) -> NoReturn:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._work(), name="publish")
        raise AssertionError("workers do not return")

    async def _work(self) -> NoReturn:
        while True:
            subject = await self._queue.get()
            try:
                await self._publish_newest(subject)
            except asyncio.CancelledError:
                self._queue.put_nowait(subject)
                raise
            self._pending.discard(subject)
            PENDING.dec()
            raise_if_cancelled()

    async def _publish_newest(self, subject: str) -> None:
        """Publish the newest event of ``subject``, with retries, until no newer one has arrived meanwhile."""
        while (event := self._newest.get(subject)) is not None:
            try:
                await self._publish(event)
            except BusUnavailable as error:
                PUBLISH_RETRIES.inc()
                delay = self._backoff.failed(subject)
                _log.debug("NATS did not acknowledge an event (%s); retrying in %.1f s", error, delay)
                raise_if_cancelled()
                await asyncio.sleep(delay)
                continue
            self._backoff.succeeded(subject)
            PUBLISHED.labels(event.resource, event.reason).inc()
            if self._newest.get(subject) is event:
                self._forget(subject)

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
