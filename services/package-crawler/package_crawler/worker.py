"""The messages of the crawler.

There are three kinds. ``crawl`` and ``crawl-resync`` of a Connection become one ``crawl`` for each owner. The ``crawl`` of an
owner is put back for its next look. ``crawl-request`` of a Connection is put back until it is over.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractAsyncContextManager, nullcontext

from nats.js.kv import KeyValue

from codecommon.api.kinds import CONNECTIONS
from codecommon.api.meta import Workspace
from codecommon.api.results import Interruption, Retryable
from codecommon.controller.delivery import Ack, Delivery, PutBack, Settlement
from codecommon.controller.message_worker import MessageWorker, WorkerTiming
from codecommon.controller.reconcile import KCP_UNAVAILABLE
from codecommon.githost.job import Job, working_on
from codecommon.githost.protocol import HostBusy
from codecommon.kcp.client import KcpError, ProviderKcp
from codecommon.kcp.endpoints import UnknownEndpoint
from codecommon.messaging.bus import CRAWLER, Bus, BusUnavailable
from codecommon.messaging.events import ObjectEvent, UndecodableEvent
from codecommon.messaging.poison_messages import Attempt, PoisonMessages
from codecommon.process.backoff import Backoff
from package_crawler.crawl import Crawl
from package_crawler.fan_out import FanOut
from package_crawler.metrics import CRAWL_SECONDS, CRAWLS

_log = logging.getLogger(__name__)


class CrawlWorker(MessageWorker[None]):
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
        timing: WorkerTiming | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(
            CRAWLER,
            bus=bus,
            kcp=kcp,
            locks=locks,
            poison=poison,
            max_per_workspace=max_per_workspace,
            timing=timing or WorkerTiming(),
            backoff=backoff or Backoff(),
            keep=True,
        )
        self._fan_out = fan_out
        self._crawl = crawl

    def _kind_of(self, event: ObjectEvent) -> str:
        if not event.is_crawl:
            raise UndecodableEvent("it asks for no crawl")
        return CONNECTIONS.kind

    def _lock_key(self, event: ObjectEvent) -> str:
        # A Connection and each of its owners have messages of their own.
        return event.subject.split(".", 2)[2]

    def _identity(self, event: ObjectEvent) -> str:
        return self._lock_key(event)

    def _prepared(self, delivery: Delivery, event: ObjectEvent, attempt: Attempt) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def _handle(self, delivery: Delivery, event: ObjectEvent, prepared: None) -> Settlement:
        key = self._identity(event)
        try:
            settlement = await self._look(event)
        except HostBusy as busy:
            CRAWLS.labels("waiting").inc()
            return self._again(key, busy)
        except Retryable as failure:
            CRAWLS.labels("waiting" if failure.exact else "failed").inc()
            _log.info("%s: %s", failure.reason, failure.message)
            return self._again(key, failure)
        except Interruption as refused:
            # A change of the Connection, its Secret or a Repository asks anew, and so does the Connection's resync.
            CRAWLS.labels("refused").inc()
            _log.info("not crawled, %s: %s", refused.reason, refused.message)
            return Ack()
        except (UnknownEndpoint, BusUnavailable, KcpError, *KCP_UNAVAILABLE):
            raise
        except Exception:
            CRAWLS.labels("error").inc()
            raise
        self._backoff.succeeded(key)
        return settlement

    async def _look(self, event: ObjectEvent) -> Settlement:
        began = time.monotonic()
        await self._endpoints.require(event.endpoint)
        objects = self._kcp.objects(Workspace(event.endpoint, event.cluster))
        if not event.owner:
            settlement = await self._fan_out.run(event, objects)
        else:
            with working_on(Job("crawl", f"{event.uid} {event.owner.lower()}", event.cluster)):
                settlement = await self._crawl.run(event, objects)
            CRAWL_SECONDS.observe(time.monotonic() - began)
        return settlement

    def _again(self, key: str, failure: Retryable) -> PutBack:
        if failure.after is None:
            return self._put_back(self._backoff.failed(key))
        named = failure.after.total_seconds()
        return self._put_back(named if failure.exact else self._backoff.jitter(named))
