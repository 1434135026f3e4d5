"""Lists of the objects of one kind in one workspace, page after page.

A tenant decides how many objects there are and how big. So a page is short, its bytes are bounded, and only what the caller keeps
of an object outlives it. A workspace has one list at a time in a process. The lists of strangers take turns, page by page.

Every list is live. The API server answers a page from its store whatever ``resourceVersion`` asks for, and refuses one beside a
continue token. The token pins the version that the first page was read at, so the pages fit together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, Protocol, TypeVar

from codecommon.api.annotations import READ_ANNOTATIONS
from codecommon.kcp.errors import AnswerTooLong, KcpError
from codecommon.kcp.field_selectors import FieldSelectors
from codecommon.process.mutex import KeyedMutex

T = TypeVar("T")

_JsonObject = dict[str, Any]

PAGE_OBJECTS: Final = 32
PAGE_BYTES: Final = 1 << 20
"""A longer page is asked for again with half as many objects, so a page of one object may be longer.

1 MiB of the densest objects that a tenant can make is parsed within 100 ms. Parsing holds the event loop, in a thread, too.
"""

_ATTEMPTS: Final = 3
_DROPPED_METADATA: Final = ("labels", "managedFields")


class Requests(Protocol):
    """What is asked for the pages: a ``Kcp``."""

    async def request(
        self, method: str, url: str, *, params: Mapping[str, str] | None = None, most_bytes: int | None = None
    ) -> _JsonObject: ...


class Turns:
    """Who may read a list: one at a time in a workspace, and of all lists so many pages at the same time.

    It outlives the identities that read, and holds no credential.
    """

    def __init__(self, most_pages: int | None = None) -> None:
        """``most_pages``: None: no bound, for a process that itself decides what it lists."""
        self._workspaces = KeyedMutex()
        self._pages = nullcontext() if most_pages is None else asyncio.Semaphore(most_pages)

    def workspace(self, workspace: str) -> AbstractAsyncContextManager[object]:
        return self._workspaces.hold(workspace)

    def page(self) -> AbstractAsyncContextManager[object]:
        """Those who wait are served in their order. So a long list lets the others pass after each page."""
        return self._pages


class Lists:
    """All lists that are read as one identity."""

    def __init__(self, kcp: Requests, turns: Turns | None = None) -> None:
        """``turns``: those that it shares with other identities. None: its own, without a bound on pages."""
        self._kcp = kcp
        self._turns = turns or Turns()
        self.selectors = FieldSelectors(kcp)

    async def collect(
        self,
        workspace: str,
        path: str,
        keep: Callable[[_JsonObject], T | None],
        *,
        fields: Mapping[str, str],
        most: int | None,
    ) -> list[T]:
        """What ``keep`` returns for the objects at ``path`` in ``workspace`` (a URL), but for None.

        ``fields``: only the objects with these values, by path. ``most``: the list ends when so much was kept. ``keep`` is called
        with each object, without what nobody reads of its metadata. It may be called twice with an object.
        """
        url = workspace + path
        async with self._turns.workspace(workspace):
            selector = self.selectors.selector(path, fields)
            try:
                return await self._from_the_start(url, selector, keep, fields, most)
            except KcpError as error:
                if error.status != 400 or not selector or not self.selectors.are_ours(path, fields):
                    raise
            # If the selector was not to blame, this fails, too.
            kept = await self._from_the_start(url, "", keep, fields, most)
            self.selectors.refused(path, url, selector)
            return kept

    async def _from_the_start(
        self,
        url: str,
        selector: str,
        keep: Callable[[_JsonObject], T | None],
        fields: Mapping[str, str],
        most: int | None,
    ) -> list[T]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._pages(url, selector, keep, fields, most)
            except KcpError as error:
                # The version that the pages were read at is kept for minutes only. A part of a list is no list.
                if error.status != 410 or attempt == _ATTEMPTS:
                    raise
        raise AssertionError

    async def _pages(
        self,
        url: str,
        selector: str,
        keep: Callable[[_JsonObject], T | None],
        fields: Mapping[str, str],
        most: int | None,
    ) -> list[T]:
        kept: list[T] = []
        params = {"fieldSelector": selector} if selector else {}
        limit = PAGE_OBJECTS
        while True:
            async with self._turns.page():
                try:
                    page = await self._kcp.request(
                        "GET", url, params={**params, "limit": str(limit)}, most_bytes=PAGE_BYTES if limit > 1 else None
                    )
                except AnswerTooLong:
                    limit //= 2
                    continue
                for raw in page["items"]:
                    # What parses a page, or looks at an object, holds the loop. Others may pass in between.
                    await asyncio.sleep(0)
                    if any(_value(raw, path) != value for path, value in fields.items()):
                        continue
                    found = keep(_trimmed(raw))
                    if found is not None:
                        kept.append(found)
                        if len(kept) == most:
                            return kept
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return kept
            params["continue"] = token


def _value(raw: _JsonObject, path: str) -> Any:
    """The value of a field as a field selector compares it: a missing one is empty."""
    value: Any = raw
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return "" if value is None else value


def _trimmed(raw: _JsonObject) -> _JsonObject:
    metadata: _JsonObject = raw.get("metadata") or {}
    kept = {name: value for name, value in metadata.items() if name not in _DROPPED_METADATA}
    if "annotations" in kept:
        annotations: _JsonObject = kept["annotations"] or {}
        kept["annotations"] = {name: value for name, value in annotations.items() if name in READ_ANNOTATIONS}
    return {**raw, "metadata": kept}
