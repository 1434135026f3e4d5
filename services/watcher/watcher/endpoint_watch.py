"""Watches one endpoint while this replica holds the endpoint's lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NoReturn, Protocol

from codecommon.api.kinds import KINDS
from codecommon.kcp.client import resource_path
from codecommon.messaging.events import Lane, ObjectEvent
from codecommon.messaging.lease import Lease, LeaseLost
from watcher import decode, departed, resync
from watcher.feed import BINDINGS, SECRETS, Feed
from watcher.index import Binding
from watcher.metrics import LEADING, OBJECTS
from watcher.publisher import Bus as PublishingBus
from watcher.publisher import Publisher
from watcher.stream import METADATA_ONLY, Kcp, Source, WatchStream

_log = logging.getLogger(__name__)

_CONCURRENCY: Final[dict[Lane, int]] = {"events": 256, "resync": 16}
"""Concurrent publishes. Each lane has workers of its own, so that a resync cannot delay a change."""


class Bus(PublishingBus, departed.Bus, Protocol):
    """What is needed of ``codecommon.messaging.bus.Bus``."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What every ``EndpointWatch`` needs. ``lease`` makes the lease for the endpoint with this URL."""

    kcp: Kcp
    bus: Bus
    bundles: departed.Bundles
    lease: Callable[[str], Lease]
    resync_interval: timedelta
    credentials_namespace: str


class EndpointWatch:
    """The index, the streams and the publishers of one endpoint.

    It stays valid while this replica loses and regains the lease, as long as no other replica was active in between.
    """

    def __init__(self, url: str, deps: Dependencies) -> None:
        self._url = url
        self._deps = deps
        self._publishers = {lane: Publisher(deps.bus, limit) for lane, limit in _CONCURRENCY.items()}
        self._schedule = resync.ResyncSchedule(deps.resync_interval)
        self.feed = Feed(url, self._publish, self._schedule, self._depart)
        self._departed = departed.DepartedClusters(url, deps.bus, deps.bundles, self.feed.index.is_bound)

    async def run(self) -> NoReturn:
        """Watch and publish until cancelled. A second call continues with the index of the first."""
        if self.feed.knows_bindings:
            self._departed.resume()
        async with asyncio.TaskGroup() as group:
            for publisher in self._publishers.values():
                group.create_task(publisher.run(), name="publisher")
            group.create_task(self._bindings().run(), name=BINDINGS)
            for stream in self._bound_resources():
                group.create_task(self._once_bound(stream), name="stream")
            group.create_task(self.feed.publish_rest(), name="rest")
            group.create_task(departed.run(self._departed, lambda: self.feed.knows_bindings), name="departed")
            group.create_task(resync.run(self._schedule, self.feed.resync), name="resync")
        raise AssertionError("streams do not return")

    def close(self) -> None:
        """Drop the events that are not published."""
        for publisher in self._publishers.values():
            publisher.discard()

    def _publish(self, event: ObjectEvent) -> None:
        self._publishers[event.lane].enqueue(event)

    def _depart(self, cluster: str) -> None:
        for publisher in self._publishers.values():
            publisher.drop(cluster)
        self._departed.add(cluster)

    def _bindings(self) -> WatchStream[Binding]:
        return WatchStream(self._deps.kcp, self._source(BINDINGS, decode.binding), self.feed.bindings())

    def _bound_resources(self) -> list[WatchStream[Any]]:
        """The streams of the resources that kcp serves once a workspace has bound the export."""
        kcp, namespace = self._deps.kcp, self._deps.credentials_namespace
        return [
            WatchStream(kcp, self._source(SECRETS, decode.secret, METADATA_ONLY), self.feed.secrets()),
            *(
                WatchStream(
                    kcp,
                    self._source(kind.resource, decode.seen_decoder(kind, namespace)),
                    self.feed.objects(kind.resource),
                )
                for kind in KINDS.values()
            ),
        ]

    async def _once_bound(self, stream: WatchStream[Any]) -> NoReturn:
        # Before that, kcp accepts the request and never answers it.
        await self.feed.bound.wait()
        await stream.run()

    def _source(self, resource: str, decoder: Callable[[Any], Any], accept: str = "application/json") -> Source[Any]:
        url = f"{self._url}/clusters/*{resource_path(resource)}"

        async def constant() -> str:
            return url

        return Source(resource, constant, decoder, accept)


async def watch_endpoint(url: str, deps: Dependencies) -> NoReturn:
    """Watch the endpoint whenever this replica holds its lease, until cancelled."""
    endpoint_watch: EndpointWatch | None = None
    lease = deps.lease(url)
    leading = LEADING.labels(url)
    objects = OBJECTS.labels(url)
    objects.set_function(lambda: endpoint_watch.feed.index.size if endpoint_watch is not None else 0)
    try:
        while True:
            try:
                async with lease.term() as term:
                    if endpoint_watch is not None and term.succession:
                        # Another replica was active meanwhile and published what happened. Our index is out of date.
                        endpoint_watch.close()
                        endpoint_watch = None
                    if endpoint_watch is None:
                        endpoint_watch = EndpointWatch(url, deps)
                    leading.set(1)
                    await endpoint_watch.run()
            except* LeaseLost as lost:
                _log.warning("lost the lease: %s", lost.exceptions[0])
            finally:
                leading.set(0)
    finally:
        if endpoint_watch is not None:
            endpoint_watch.close()
        LEADING.remove(url)
        OBJECTS.remove(url)
