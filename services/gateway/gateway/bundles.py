"""The bundle store as the gateway uses it. It serves all else while the store is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from nats.errors import Error as NatsError

from codecommon.api.bundle import Bundle
from codecommon.messaging.bundles import BundleStore, DirectoryBundles, MeteredBundles, open_bundle_store
from codecommon.messaging.bus import Bus, BusUnavailable
from codecommon.process.service import CannotRun
from codecommon.process.settings import NatsSettings

_log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 10.0
_MOST_AT_ONCE: Final = 2
"""A bundle of 16 MiB takes several times as much memory while it is stored or read."""

OpenStore = Callable[[], AbstractAsyncContextManager[BundleStore]]


class Bundles:
    """Stores, reads and removes bundles: a few at the same time, others wait. Every method raises ``BusUnavailable``."""

    def __init__(self, open_store: OpenStore) -> None:
        self._open = open_store
        self._turns = asyncio.Semaphore(_MOST_AT_ONCE)

    async def put(self, cluster: str, bundle: Bundle) -> None:
        """Store it for the workspace whose ID kcp has answered. Raises ``BundlesFull`` besides."""
        async with self._turns, self._open() as store:
            await store.put(cluster, bundle)

    async def get(self, cluster: str, name: str) -> Bundle | None:
        """None: there is none, or none any more. Raises ``InvalidBundle`` besides."""
        async with self._turns, self._open() as store:
            found = await store.find(cluster, name)
            return await store.read(cluster, found) if found is not None else None

    async def remove(self, cluster: str, name: str) -> None:
        """Remove it, if it is there."""
        async with self._open() as store:
            found = await store.find(cluster, name)
            if found is not None:
                await store.remove(cluster, found)


@asynccontextmanager
async def no_store() -> AsyncIterator[BundleStore]:
    """For a table of tools that is only looked at."""
    raise BusUnavailable("there is no store")
    yield  # pyright: ignore[reportUnreachable]


class StoreConnection:
    """Opens the store that the settings name: a directory, or NATS, with a connection that is kept."""

    def __init__(self, nats: NatsSettings, name: str, directory: Path | None) -> None:
        self._nats = nats
        self._name = name
        self._directory = directory
        self._bus: Bus | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[BundleStore]:
        """Raises ``BusUnavailable``."""
        if self._directory is not None:
            yield MeteredBundles(DirectoryBundles(self._directory))
            return
        bus = self._bus
        if bus is None or not bus.nc.is_connected:
            raise BusUnavailable("not connected")
        try:
            async with open_bundle_store(bus, None) as store:
                yield store
        except (NatsError, BusUnavailable) as error:
            _log.warning("NATS does not answer for bundles: %s", str(error) or type(error).__name__)
            raise BusUnavailable(type(error).__name__) from None

    async def run(self) -> None:
        """Keep a connection for as long as this runs. A directory needs none."""
        while self._directory is None:
            try:
                async with Bus.connect(self._nats, self._name) as self._bus:
                    await self._bus.keep_open()
            except (NatsError, OSError, CannotRun) as error:
                why = str(error) if isinstance(error, CannotRun) else type(error).__name__
                _log.warning("commits and checkouts have no NATS and try again: %s", why)
            finally:
                self._bus = None
            await asyncio.sleep(_RETRY_SECONDS)
