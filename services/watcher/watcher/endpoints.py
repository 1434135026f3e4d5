"""The endpoints of our APIExport, one per kcp shard: starts those that appear, stops those that vanish, keeps the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn

from codecommon.kcp.endpoints import EXPORT_NAME, SLICE_PATH, endpoint_urls
from watcher.decode import guarded
from watcher.stream import Kcp, Source, Stream

_log = logging.getLogger(__name__)

Keep = Callable[[str], Coroutine[Any, Any, NoReturn]]
"""Serves one endpoint until cancelled, through every failure that is not a defect of ours."""

_COLLECTION: Final = SLICE_PATH.rpartition("/")[0]


class Endpoints:
    """The sink of the slice's stream, and one task per URL that it lists."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._wanted: frozenset[str] = frozenset()
        self._changed = asyncio.Event()
        self._listed = False
        self._named = False

    async def run(self, kcp: Kcp) -> NoReturn:
        """Follow the slice in the provider's workspace, which may appear later than we do."""

        async def locate() -> str:
            return _COLLECTION

        source = Source(
            "apiexportendpointslices", locate, guarded(endpoint_urls), field_selector=f"metadata.name={EXPORT_NAME}"
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(Stream(kcp, source, self).run(), name="endpoint slice")
            await self._follow(group)
        raise AssertionError("the slice is followed for ever")

    async def _follow(self, group: asyncio.TaskGroup) -> NoReturn:
        running: dict[str, asyncio.Task[NoReturn]] = {}
        while True:
            self._changed.clear()
            for url in running.keys() - self._wanted:
                _log.info("the endpoint %s is gone", url)
                running.pop(url).cancel()
            for url in self._wanted - running.keys():
                _log.info("the endpoint %s is there", url)
                running[url] = group.create_task(self._keep(url), name=url)
            if not self._wanted and self._listed:
                _log.info("waiting for %s to have endpoints", EXPORT_NAME)
            await self._changed.wait()

    # ---- the sink of the slice's stream

    def list_began(self) -> None:
        self._named = False

    def put(self, item: frozenset[str]) -> None:
        self._named = True
        self._want(item)

    def gone(self, item: frozenset[str]) -> None:
        self._want(frozenset())

    def list_ended(self) -> None:
        self._listed = True
        if not self._named:
            self._want(frozenset())

    def _want(self, urls: frozenset[str]) -> None:
        self._wanted = urls
        self._changed.set()
