"""HTTP/1.1 for strangers: a request has to arrive in time, and its head has a greatest size.

uvicorn bounds neither. A client could open connections, send a byte now and then, and hold them for ever.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_SECONDS: Final = 30.0
"""From the first byte of a request, or from the start of the connection, until its body is complete."""

MOST_HEAD_BYTES: Final = 64 << 10
"""Of the request line and the headers. Other servers take between 8 and 64 KiB."""


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection whose request takes too long to arrive, or whose head is too long."""

    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._end()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def _begin(self) -> None:
        self._end()
        self._in_head, self._head_bytes = True, 0
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.close)

    def _end(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
