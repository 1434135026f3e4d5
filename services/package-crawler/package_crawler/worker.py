"""One message of the crawler, from its event to its answer.

There are three kinds. ``crawl`` and ``crawl-resync`` of a Connection become one ``crawl`` for each owner. The ``crawl`` of an
owner is put back for its next look. ``crawl-request`` of a Connection is put back until it is over.
"""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import suppress
from typing import Final

from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

from codecommon.api.meta import Workspace
from codecommon.api.results import Interruption, Retryable
from codecommon.controller.delivery import Ack, Delivery, PutBack, Settlement
from codecommon.controller.fairness import Shares
from codecommon.controller.metrics import MESSAGES_SET_ASIDE
from codecommon.controller.reconcile import KCP_UNAVAILABLE, UNFORESEEN_AFTER
from codecommon.githost.job import Job, working_on
from codecommon.githost.protocol import HostBusy
from codecommon.kcp.client import KcpError, ProviderKcp
from codecommon.kcp.endpoints import KnownEndpoints, UnknownEndpoint
from codecommon.messaging import tracing
from codecommon.messaging.bus import Bus, BusUnavailable
from codecommon.messaging.events import ObjectEvent, UndecodableEvent
from codecommon.messaging.locks import LOST_AFTER_SECONDS, LockLost, LockTaken
from codecommon.messaging.poison_messages import PoisonMessages
from codecommon.process import logs
from codecommon.process.backoff import Backoff
from codecommon.process.mutex import KeyedMutex
from package_crawler.crawl import Crawl
from package_crawler.fan_out import FanOut
from package_crawler.metrics import CRAWL_SECONDS, CRAWLS

_log = logging.getLogger(__name__)

_SET_ASIDE_SECONDS: Final = 600.0
_FORBIDDEN: Final = 403


class CrawlWorker:
    """Works on the deliveries of the crawler. ``locks``: the bucket with the locks."""

    def __init__(
        self,
        *,
        bus: Bus,
        kcp: ProviderKcp,
        fan_out: FanOut,
        crawl: Crawl,
        locks: KeyValue,
        poison: PoisonMessages,
        max_per_workspace: int,
        backoff: Backoff | None = None,
        lost_after: float = LOST_AFTER_SECONDS,
    ) -> None:
        self._bus = bus
        self._kcp = kcp
        self._fan_out = fan_out
        self._crawl = crawl
        self._endpoints = KnownEndpoints(kcp)
        self._locks = locks
        self._poison = poison
        self._shares = Shares(max_per_workspace)
        self._mutex = KeyedMutex()
        self._replica = uuid.uuid4().hex
        self._backoff = backoff or Backoff()
        self._lock_backoff = Backoff(0.25, 5.0)
        self._lost_after = lost_after
        self._warnings = logs.Repeated(_log)

    async def work(self, delivery: Delivery) -> None:
        """Work on the message and settle it. A message that could not be settled is delivered again, which is safe."""
        try:
            event = await self._decode(delivery)
            if event is None:
                return
            over_share = self._shares.delay(event.cluster)
            if over_share is not None:
                await delivery.settle(PutBack(over_share, keep=True, helps=True))
                return
            with (
                self._shares.running(event.cluster),
                logs.bind(kind="Connection", cluster=event.cluster, name=event.name),
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
            if not event.is_crawl or event.subject != delivery.msg.subject:
                raise UndecodableEvent("its subject is that of another event")
        except UndecodableEvent as error:
            await self._bus.bury(delivery.msg, str(error))
            MESSAGES_SET_ASIDE.labels("package-crawler", "undecodable").inc()
            return None
        return event

    async def _exclusively(self, delivery: Delivery, event: ObjectEvent) -> Settlement:
        """Handle the message while nobody else handles one of its subject, in this process or in another replica."""
        key = event.subject.split(".", 2)[2]
        async with self._mutex.hold(key):
            attempt = self._poison.attempt(delivery.msg, event, self._replica, key=key)
            try:
                async with delivery.locked(self._locks, key, self._replica, self._lost_after):
                    self._lock_backoff.succeeded(key)
                    if await attempt.begin():
                        _log.error(
                            "a crawl ended its process at least %d times; it is set aside for %d s",
                            attempt.deaths,
                            _SET_ASIDE_SECONDS,
                        )
                        MESSAGES_SET_ASIDE.labels("package-crawler", "poison").inc()
                        settlement: Settlement = PutBack(_SET_ASIDE_SECONDS, keep=True)
                    else:
                        settlement = await self._handle(delivery, event, key)
                    await attempt.over()
                    return settlement
            except LockTaken:
                return PutBack(self._lock_backoff.failed(key), keep=True)
            except (LockLost, NatsError, TimeoutError):
                await attempt.over()
                return PutBack(self._backoff.failed(key), keep=True)

    async def _handle(self, delivery: Delivery, event: ObjectEvent, key: str) -> Settlement:
        """Never raises an error: whatever goes wrong becomes a settlement."""
        began = time.monotonic()
        try:
            await self._endpoints.require(event.endpoint)
            objects = self._kcp.objects(Workspace(event.endpoint, event.cluster))
            if not event.owner:
                settlement = await self._fan_out.run(event, objects)
            else:
                with working_on(Job("crawl", f"{event.uid} {event.owner.lower()}", event.cluster)):
                    settlement = await self._crawl.run(event, objects)
                CRAWL_SECONDS.observe(time.monotonic() - began)
        except UnknownEndpoint:
            # Whoever watches the Connection now asks anew, with an endpoint that is there.
            _log.warning("the event names an endpoint that is not in the endpoint slice; it is dropped")
            return Ack()
        except HostBusy as busy:
            CRAWLS.labels("waiting").inc()
            return self._put_back(key, busy)
        except Retryable as failure:
            CRAWLS.labels("waiting" if failure.exact else "failed").inc()
            _log.info("%s: %s", failure.reason, failure.message)
            return self._put_back(key, failure)
        except Interruption as refused:
            # A change of the Connection, its Secret or a Repository asks anew, and so does the Connection's resync.
            CRAWLS.labels("refused").inc()
            _log.info("not crawled, %s: %s", refused.reason, refused.message)
            return Ack()
        except (BusUnavailable, *KCP_UNAVAILABLE) as error:
            cause = type(error).__name__
            self._warnings.warning(f"unavailable {cause}", "kcp or NATS cannot be reached now: %s", cause)
            return PutBack(self._backoff.failed(key), keep=True)
        except KcpError as error:
            if error.status == _FORBIDDEN and await self._is_gone(delivery, event):
                return Ack()
            self._warnings.warning(f"kcp {error.status} {error.reason}", "kcp refused: %s", error)
            return PutBack(max(self._backoff.failed(key), error.retry_after or 0), keep=True)
        except Exception:  # noqa: BLE001 - the top-level handler of a message: what we do not understand must not end the process
            CRAWLS.labels("error").inc()
            _log.exception("handling failed")
            return PutBack(self._backoff.jitter(UNFORESEEN_AFTER.total_seconds()), keep=True)
        self._backoff.succeeded(key)
        return settlement

    def _put_back(self, key: str, failure: Retryable) -> PutBack:
        if failure.after is None:
            return PutBack(self._backoff.failed(key), keep=True)
        named = failure.after.total_seconds()
        return PutBack(named if failure.exact else self._backoff.jitter(named), keep=True)

    async def _is_gone(self, delivery: Delivery, event: ObjectEvent) -> bool:
        """Whether kcp forbids it because the workspace is gone. The watcher purges the messages of such a workspace."""
        if not await self._bus.is_stored(delivery.msg):
            return True
        with suppress(KcpError, *KCP_UNAVAILABLE):
            try:
                await self._endpoints.require(event.endpoint, live=True)
            except UnknownEndpoint:
                return True
        return False
