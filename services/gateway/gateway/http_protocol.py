"""HTTP/1.1 for strangers: a request has to arrive in time, its head has a greatest size, and its answer has to be taken in time.

uvicorn bounds none of them. A client could open connections, send or read a byte now and then, and hold them for ever.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class BoundedHttp(HttpToolsProtocol):
    """Closes a connection whose request takes too long to arrive, whose head is too long, or whose client does not read."""

    request_seconds = 30.0
    """From the first byte of a request, or from the start of the connection, until its body is complete. And how long a client
    may let an answer wait for it.
    """
    most_head_bytes = 64 << 10
    """Of what comes in a row without a byte of a body: the request line and the headers, the trailers, the frames of chunks."""

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > self.most_head_bytes:
            self._close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # White space around a value is not part of it (RFC 9110, 5.5). The parser leaves what stands behind.
        super().on_header(name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        self._end()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():  # an orderly end, which waits for the client to read
            self._await_reader()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._await_reader()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None and not self.transport.is_closing():
            self._unread.cancel()
            self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def _begin(self) -> None:
        self._end()
        self._deadline = self.loop.call_later(self.request_seconds, self._close)

    def _end(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self.transport.close()
        self._await_reader()

    def _await_reader(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(self.request_seconds, self.transport.abort)


def bounded_http(most_head_bytes: int, request_seconds: float) -> type[BoundedHttp]:
    """The protocol with these bounds. uvicorn makes one per connection, and gives it no settings."""
    return type("BoundedHttp", (BoundedHttp,), {"most_head_bytes": most_head_bytes, "request_seconds": request_seconds})
