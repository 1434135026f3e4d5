"""Lists and watches one resource: a streaming list, then changes on the same connection, for as long as the process lives.

Secrets pass through here. So no raw line, body or exception text is logged or kept; errors name their type, status and length.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Generic, NoReturn, Protocol, TypeVar

import aiohttp

from codecommon.kcp.client import JsonObject, KcpError
from codecommon.kcp.kubeconfig import KubeconfigError
from codecommon.process.backoff import Backoff
from watcher.decode import UndecodableObject
from watcher.lines import LineSplitter, MalformedLine, parse_object
from watcher.metrics import LISTS, STREAM_FAILURES, STREAMS, UNDECODABLE
from watcher.sinks import Sink

_log = logging.getLogger(__name__)

T = TypeVar("T")

METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

SILENCE_SECONDS: Final = 150.0
"""A stream without a byte for this long may be dead, and is resumed, which costs little.

Bookmarks arrive about once a minute. After a restart, kcp sends none for a resource until one of its objects changes.
"""

LIST_SILENCE_SECONDS: Final = 5.0
"""A list without a byte for this long is given up and begun anew. The bound doubles each time, in case kcp is only slow.

A list begins within two seconds. On a resource whose cache kcp has not set up yet, it never begins.
"""

_INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
_RESUMABLE: Final = frozenset({401, 403, 429, 500, 502, 503})
"""Statuses after which we resume at the same resourceVersion. After any other (410 above all) we list anew."""

_LONGEST_RETRY_AFTER_SECONDS: Final = 60.0
_PROVEN_SECONDS: Final = 30.0
"""A connection that lasted this long resets the back-off, whatever ended it."""

_WARN_FROM_SECONDS: Final = 1.0
"""A pause this long means that several connections in a row have failed, which is worth a warning."""

_VERSION: Final = re.compile(r"[0-9]{1,20}")

_LIVENESS_SECONDS: Final = 2.0

_TURN_SECONDS: Final = 0.01
"""For so long a stream handles what has arrived before others have their turn."""


class StreamEnded(Exception):
    """kcp closed the stream, as it does about every half hour."""


class ErrorEvent(Exception):
    """kcp sent an ERROR event. Its message is dropped, because it may quote an object."""

    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class WentBack(Exception):
    """A bookmark is older than the last resourceVersion seen: kcp was restored from a backup."""


@dataclass(frozen=True, slots=True)
class _End:
    """Why a connection ended. ``relist``: list anew instead of resuming. ``at_least``: the shortest pause, in seconds."""

    cause: str
    detail: str = ""
    relist: bool = False
    at_least: float = 0.0


_ENDS: Final = (
    StreamEnded,
    MalformedLine,
    ErrorEvent,
    WentBack,
    KcpError,
    KubeconfigError,
    aiohttp.ClientError,
    OSError,
)
"""The errors that a connection may end with. Timeouts are OSErrors."""


def _judge(error: Exception) -> _End:
    cause = type(error).__name__
    match error:
        case KcpError():
            at_least = min(error.retry_after or 0.0, _LONGEST_RETRY_AFTER_SECONDS)
            return _End(f"{cause} {error.status}", relist=error.status not in _RESUMABLE, at_least=at_least)
        case ErrorEvent():
            return _End(f"{cause} {error.code}", relist=error.code not in _RESUMABLE)
        case WentBack():
            return _End(cause, relist=True)
        case MalformedLine():
            return _End(cause, detail=f": {error}")
        case _:
            return _End(cause)


class Kcp(Protocol):
    def stream(
        self, url: str, *, params: Mapping[str, str], headers: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]: ...


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """What to watch. ``url`` is called before each connection. ``decode`` raises ``UndecodableObject``."""

    resource: str
    url: Callable[[], Awaitable[str]]
    decode: Callable[[JsonObject], T]
    accept: str = "application/json"
    field_selector: str = ""


class WatchStream(Generic[T]):
    """Writes what ``source`` sends into ``sink``.

    Args:
        backoff: the pause before each connection except the first.
        silence: seconds without a byte after which a watch is resumed.
        list_silence: seconds without a byte after which a list is given up; see ``LIST_SILENCE_SECONDS``.
    """

    def __init__(
        self,
        kcp: Kcp,
        source: Source[T],
        sink: Sink[T],
        *,
        backoff: Backoff | None = None,
        silence: float = SILENCE_SECONDS,
        list_silence: float = LIST_SILENCE_SECONDS,
    ) -> None:
        self._kcp = kcp
        self._source = source
        self._sink = sink
        self._backoff = backoff or Backoff(0.1, 5.0)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=silence)
        self._silence = silence
        self._list_silence = list_silence
        self._list_timeout = list_silence
        """``list_silence``, doubled with every list that was given up."""
        self._version: str | None = None
        """The resourceVersion to resume at; None: list anew."""
        self._progressed = False
        """Whether this connection has moved ``_version``."""
        self._warned_of = ""
        """The last cause that was logged as a warning."""

    async def run(self) -> NoReturn:
        """Watch until cancelled. Only a defect of ours ends it otherwise."""
        while True:
            self._progressed = False
            began = time.monotonic()
            try:
                await self._connect()
            except _ENDS as error:
                end = _judge(error)
                if isinstance(error, TimeoutError) and self._version is None:
                    self._list_timeout = min(self._list_timeout * 2, self._silence)
            if end.relist:
                self._version = None
            # One event before each 410 does not count as progress: the stream would list again and again without a pause.
            if (self._progressed and not end.relist) or time.monotonic() - began > _PROVEN_SECONDS:
                self._backoff.succeeded(self._source.resource)
                self._warned_of = ""
            await self._pause(end)

    async def _pause(self, end: _End) -> None:
        resource = self._source.resource
        STREAM_FAILURES.labels(resource, end.cause).inc()
        delay = max(self._backoff.failed(resource), end.at_least)
        # One failure is normal: kcp restarts, or a stream had no news. A lasting or garbled one needs attention.
        warn = (delay >= _WARN_FROM_SECONDS or bool(end.detail)) and end.cause != self._warned_of
        if warn:
            self._warned_of = end.cause
        level = logging.WARNING if warn else logging.DEBUG
        _log.log(level, "the stream of %s ended (%s%s); reconnecting in %.1f s", resource, end.cause, end.detail, delay)
        await asyncio.sleep(delay)

    async def _connect(self) -> NoReturn:
        params = {"watch": "true", "allowWatchBookmarks": "true"}
        if self._source.field_selector:
            params["fieldSelector"] = self._source.field_selector
        if self._version is None:
            params |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
            self._sink.list_began()
        else:
            params["resourceVersion"] = self._version
        async with self._kcp.stream(
            await self._source.url(), params=params, headers={"Accept": self._source.accept}, timeout=self._timeout
        ) as response:
            connected = STREAMS.labels(self._source.resource)
            connected.inc()
            try:
                await self._read(response)
            finally:
                connected.dec()

    async def _read(self, response: aiohttp.ClientResponse) -> NoReturn:
        lines = LineSplitter()
        while chunk := await _next_chunk(response, self._list_timeout if self._version is None else self._silence):
            turn = time.monotonic()
            for line in lines.feed(chunk):
                self._handle(parse_object(line), len(line))
                if time.monotonic() - turn > _TURN_SECONDS:
                    # A long list may be in the buffer as a whole. The renewal of leases must have its turn in between.
                    await asyncio.sleep(0)
                    turn = time.monotonic()
        if lines.pending:
            raise MalformedLine("a body that ends within a line", lines.pending)
        raise StreamEnded

    def _handle(self, event: JsonObject, length: int) -> None:
        kind, raw = event.get("type"), event.get("object")
        if not isinstance(raw, dict):
            raise MalformedLine("an event without an object", length)
        match kind:
            case "ADDED" | "MODIFIED":
                self._pass_on(self._sink.put, raw, length)
            case "DELETED":
                self._pass_on(self._sink.delete, raw, length)
            case "BOOKMARK":
                self._bookmark(raw, length)
            case "ERROR":
                code = raw.get("code")
                raise ErrorEvent(code if isinstance(code, int) else 0)
            case _:
                raise MalformedLine("an event of unknown type", length)

    def _pass_on(self, change: Callable[[T], None], raw: JsonObject, length: int) -> None:
        version = _version(raw, length)
        try:
            item = self._source.decode(raw)
        except UndecodableObject as error:
            UNDECODABLE.labels(self._source.resource).inc()
            _log.warning("an object in the stream of %s is left out (%s)", self._source.resource, error)
        else:
            change(item)
        if self._version is not None:
            self._advance(version)

    def _bookmark(self, raw: JsonObject, length: int) -> None:
        if self._version is None:
            # The objects of a list come in no order, so there is nothing to resume at before its end.
            if _annotation(raw, _INITIAL_EVENTS_END) == "true":
                self._version = _version(raw, length)
                self._list_timeout = self._list_silence
                self._warned_of = ""
                LISTS.labels(self._source.resource).inc()
                self._sink.list_ended()
            return
        if int(_version(raw, length)) < int(self._version):
            raise WentBack
        self._advance(_version(raw, length))

    def _advance(self, version: str) -> None:
        if version != self._version:
            self._version = version
            self._progressed = True


async def _next_chunk(response: aiohttp.ClientResponse, silence: float) -> bytes:
    """The bytes that arrived since the last call; empty at the end of the body.

    Raises ``TimeoutError`` after ``silence`` seconds without a byte, and ``StreamEnded`` if our side closed the connection.
    """
    until = time.monotonic() + silence
    while True:
        pause = asyncio.timeout(min(_LIVENESS_SECONDS, until - time.monotonic()))
        try:
            async with pause:
                return await response.content.readany()
        except TimeoutError:
            if not pause.expired() or time.monotonic() >= until:
                raise
            # A rotated kubeconfig closes the session. That drops its timeouts, and a pending read never returns.
            if response.connection is None or response.connection.closed:
                raise StreamEnded from None


def _version(raw: JsonObject, length: int) -> str:
    metadata = raw.get("metadata")
    version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise MalformedLine("an object without a resourceVersion", length)
    return version


def _annotation(raw: JsonObject, name: str) -> object:
    metadata = raw.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    return annotations.get(name) if isinstance(annotations, dict) else None
