"""What one request, and all together, may take: bytes of the head, bytes of bodies, and time.

A body is read before its request is handled. So a handler never waits for a slow client, and a body that is too large is always
answered with 413.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http_settings import HttpSettings
from gateway.metrics import BYTES_IN_FLIGHT, REFUSED


class Bounded:
    """Refuses with 431, 413, 503 or 504 what goes over the bounds of ``settings``. ``large``: the paths with large bodies."""

    def __init__(self, app: ASGIApp, settings: HttpSettings, large: Collection[str]) -> None:
        self._app = app
        self._settings = settings
        self._large = large
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body()
        try:
            refusal = await self._read(scope, receive, body)
            if refusal is None:
                await self._answer(scope, body.replay(receive), send)
            else:
                if "expect" in Headers(scope=scope):
                    # The client may now leave out the body, and we would take its next request for it.
                    refusal.headers["Connection"] = "close"
                await refusal(scope, receive, send)
        except _HungUp:
            pass
        finally:
            self._count(-body.size)

    async def _read(self, scope: Scope, receive: Receive, body: _Body) -> Response | None:
        """Read the body and count it. Returns the refusal if there is one. Then the server drops the rest as it comes."""
        settings = self._settings
        target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if target + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > settings.most_head_bytes:
            return _refuse("head", 431, f"The head of a request has at most {settings.most_head_bytes} bytes.")
        most = settings.most_mcp_body_bytes if scope["path"] in self._large else settings.most_body_bytes
        too_large = f"The body of this request has at most {most} bytes."
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > most:
            return _refuse("body", 413, too_large)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _HungUp
            piece: bytes = message.get("body", b"")
            if body.size + len(piece) > most:
                return _refuse("body", 413, too_large)
            is_small = body.size + len(piece) <= settings.most_body_bytes
            room = settings.most_bytes_in_flight if is_small else settings.most_large_bytes
            if self._in_flight + len(piece) > room:
                return _refuse("full", 503, "Too much is being sent at this moment. Try again.", {"Retry-After": "1"})
            body.add(piece)
            self._count(len(piece))
            if not message.get("more_body"):
                return None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        limit = asyncio.timeout(self._settings.answer_timeout.total_seconds())
        try:
            async with limit:
                await self._app(scope, receive, note)
        except TimeoutError:
            if not limit.expired():
                raise
            refusal = _refuse("time", 504, "There was no answer in time.")
            if not begun:  # otherwise the server closes the connection, because the answer is not complete
                await refusal(scope, receive, send)

    def _count(self, size: int) -> None:
        self._in_flight += size
        BYTES_IN_FLIGHT.set(self._in_flight)


class _HungUp(Exception):
    """The client left before its body was complete."""


class _Body:
    def __init__(self) -> None:
        self.size = 0
        # One buffer instead of a list of pieces: a client may send a body byte by byte.
        self._content = bytearray()

    def add(self, piece: bytes) -> None:
        self._content += piece
        self.size += len(piece)

    def replay(self, receive: Receive) -> Receive:
        """What gives the whole body once, and then what ``receive`` gives."""
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            content = bytes(self._content)
            self._content.clear()
            return {"type": "http.request", "body": content, "more_body": False}

        return replay


def _refuse(bound: str, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    REFUSED.labels(bound).inc()
    return JSONResponse({"detail": detail}, status, headers=headers)
