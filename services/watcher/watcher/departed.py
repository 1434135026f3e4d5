"""Purges what we still hold of clusters that have departed: their last binding of our export is gone.

kcp refuses every request for such a cluster, and says the same of a cluster that it forbids us to read. So no service can tell
that the messages have no object any more, and would put them back for ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, NoReturn, Protocol

from codecommon.messaging.bus import BusUnavailable, raise_if_cancelled

_log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 5.0
"""What was being published when the cluster departed is stored by then."""

SWEEP_SECONDS: Final = 600.0
"""How often the messages are compared with the bindings. This finds what came late, and clusters that departed unseen."""

SETTLE_SECONDS: Final = 60.0
"""After an interruption the streams have resumed by then, so that the bindings are those of now."""

_TICK_SECONDS: Final = 1.0


class Bus(Protocol):
    """See ``codecommon.messaging.bus.Bus``. Every method raises ``BusUnavailable``."""

    async def clusters_with_messages(self) -> dict[str, str]: ...
    async def endpoint_of(self, subject: str) -> str | None: ...
    async def last_sequence(self) -> int: ...
    async def purge(self, cluster: str, until: int) -> None: ...


class Bundles(Protocol):
    """See ``codecommon.messaging.bundles.BundleStore``. It raises ``BusUnavailable``."""

    async def remove_all(self, cluster: str) -> None: ...


class DepartedClusters:
    """The clusters of one endpoint that have departed, until their messages are purged.

    ``is_bound``: whether a cluster has a binding at the endpoint. ``clock``: seconds, monotonic.
    """

    def __init__(
        self,
        endpoint: str,
        bus: Bus,
        bundles: Bundles,
        is_bound: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._bus = bus
        self._bundles = bundles
        self._is_bound = is_bound
        self._clock = clock
        self._due: dict[str, float] = {}
        """When each cluster is to be purged."""
        self._next_sweep = clock()

    def resume(self) -> None:
        """The streams were interrupted and start again: put off the next sweep until they have resumed."""
        self._next_sweep = max(self._next_sweep, self._clock() + SETTLE_SECONDS)

    def add(self, cluster: str) -> None:
        """The cluster's last binding is gone."""
        self._due[cluster] = self._clock() + GRACE_SECONDS

    async def purge_due(self) -> None:
        """Purge what is due. Raises ``BusUnavailable``; the next call does what is left.

        The bindings must have been listed.
        """
        if self._clock() >= self._next_sweep:
            await self._sweep()
            self._next_sweep = self._clock() + SWEEP_SECONDS
        due = [(cluster, at) for cluster, at in self._due.items() if at <= self._clock()]
        if not due:
            return
        # A cluster that has no binding after this answer has had none for any message up to it. If it binds again, the events of
        # the new binding come later, so the purge does not take them.
        until = await self._bus.last_sequence()
        for cluster, at in due:
            if not self._is_bound(cluster):
                await self._bus.purge(cluster, until)
                await self._bundles.remove_all(cluster)
                _log.info("purged the messages of %s, which has no APIBinding of this API any more", cluster)
            if self._due[cluster] == at:
                del self._due[cluster]

    async def _sweep(self) -> None:
        """Find the clusters that have messages and no binding. Those that another endpoint serves are left to it."""
        for cluster, subject in (await self._bus.clusters_with_messages()).items():
            if not self._is_bound(cluster) and await self._bus.endpoint_of(subject) == self._endpoint:
                self._due.setdefault(cluster, self._clock())


async def run(departed: DepartedClusters, knows_bindings: Callable[[], bool]) -> NoReturn:
    """Purge the messages of departed clusters, from when ``knows_bindings`` holds until cancelled."""
    while True:
        if knows_bindings():
            try:
                await departed.purge_due()
            except BusUnavailable as error:
                _log.debug("NATS did not purge the messages of departed clusters (%s); trying again", error)
            raise_if_cancelled()
        await asyncio.sleep(_TICK_SECONDS)
