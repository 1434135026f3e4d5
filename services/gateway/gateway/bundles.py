"""The bundle store as the gateway uses it. It serves all else while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final

from codecommon.api.bundle import Bundle
from codecommon.messaging.bundles import BundleStore, open_bundle_store
from codecommon.messaging.bus import BusUnavailable
from gateway.nats_connection import NatsConnection

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


@asynccontextmanager
async def open_store(nats: NatsConnection, directory: Path | None) -> AsyncIterator[BundleStore]:
    """The store that the settings name: a directory, or None for the object store in NATS. Raises ``BusUnavailable``."""
    opened = nats.use("bundles") if directory is None else nullcontext(directory)
    async with opened as where, open_bundle_store(where) as store:
        yield store
