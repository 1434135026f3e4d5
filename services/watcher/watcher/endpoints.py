"""Follows the APIExportEndpointSlice. Each endpoint (one per kcp shard) is watched from when it appears until it vanishes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn

from codecommon.kcp.endpoints import EXPORT_NAME, SLICE_PATH, endpoint_urls
from watcher.decode import guarded
from watcher.stream import Kcp, Source, WatchStream

_log = logging.getLogger(__name__)

WatchEndpoint = Callable[[str], Coroutine[Any, Any, NoReturn]]
"""Watches the endpoint with this URL until cancelled. It survives every failure except a defect of ours."""

_COLLECTION: Final = SLICE_PATH.rpartition("/")[0]


class Endpoints:
    """The sink of the slice's stream, and one task for each URL in the slice."""

    def __init__(self, watch: WatchEndpoint) -> None:
        self._watch = watch
        self._wanted: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._listed = False
        """Whether a list has ended."""
        self._in_list = False
        """Whether the list that is under way has contained the slice."""

    async def run(self, kcp: Kcp) -> NoReturn:
        """Follow the slice in the provider's workspace. The slice may be created later."""

        async def url() -> str:
            return _COLLECTION

        source = Source(
            "apiexportendpointslices", url, guarded(endpoint_urls), field_selector=f"metadata.name={EXPORT_NAME}"
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(WatchStream(kcp, source, self).run(), name="endpoint slice")
            await self._follow(group)
        raise AssertionError("_follow does not return")

    async def _follow(self, group: asyncio.TaskGroup) -> NoReturn:
        running: dict[str, asyncio.Task[NoReturn]] = {}
        while True:
            self._changed.clear()
            for url in running.keys() - self._wanted:
                _log.info("endpoint %s was removed", url)
                running.pop(url).cancel()
            for url in self._wanted - running.keys():
                _log.info("endpoint %s was added", url)
                running[url] = group.create_task(self._watch(url), name=url)
            if not self._wanted and self._listed:
                _log.info("waiting for %s to have endpoints", EXPORT_NAME)
            await self._changed.wait()

    # ---- the sink of the slice's stream

    def list_began(self) -> None:
        self._in_list = False

    def put(self, item: frozenset[str]) -> None:
        self._in_list = True
        self._want(item)

    def delete(self, item: frozenset[str]) -> None:
        self._want(frozenset())

    def list_ended(self) -> None:
        self._listed = True
        if not self._in_list:
            self._want(frozenset())

    def _want(self, urls: frozenset[str]) -> None:
        self._wanted = urls
        self._changed.set()
