"""What one request, and all together, may take: bytes of the head, bytes of bodies, and time.

A body is read before its request is handled. So a handler never waits for a slow client, and a body that is too large is always
answered with 413. A large answer is written after its handler has returned, piece by piece as the client takes it. Until then its
bytes count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.http_settings import HttpSettings
from gateway.metrics import BYTES_IN_FLIGHT, REFUSED

ARRIVED: Final = "code.arrived"
"""In the scope of a request: when its head had arrived, by the loop's clock. Its client waits from then on."""

_PIECE: Final = 64 << 10
"""Bytes. uvicorn takes an answer in whatever size it is given, and waits for the client only before the next piece."""


class Bounded:
    """Refuses with 431, 413, 503 or 504 what goes over the bounds of ``settings``. ``large``: the paths with large bodies."""

    def __init__(self, app: ASGIApp, settings: HttpSettings, large: Collection[str]) -> None:
        self._app = app
        self._settings = settings
        self._large = large
        self._in_flight = 0
        self._untaken = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[ARRIVED] = asyncio.get_running_loop().time()
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
        answer = _Answer(send)
        limit = asyncio.timeout(self._settings.answer_timeout.total_seconds())
        try:
            async with limit:
                await self._app(scope, receive, answer.take)
                if answer.large:
                    await self._write(scope, receive, answer)
        except TimeoutError:
            if not limit.expired():
                raise
            refusal = _refuse("time", 504, "There was no answer in time.")
            if not answer.begun:  # otherwise the server closes the connection, because the answer is not complete
                await refusal(scope, receive, send)

    async def _write(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        # The files of the portal are in memory once, however many clients read them.
        size = len(answer.large) if scope["path"] in self._large else 0
        if self._untaken + size > self._settings.most_bytes_in_flight:
            detail = "Too many clients leave large answers unread at this moment. Ask for less, or try again."
            await _refuse("untaken", 503, detail, {"Retry-After": "1"})(scope, receive, answer.send)
            return
        self._untaken += size
        try:
            await answer.write()
        finally:
            self._untaken -= size

    def _count(self, size: int) -> None:
        self._in_flight += size
        BYTES_IN_FLIGHT.set(self._in_flight)


class _HungUp(Exception):
    """The client left before its body was complete."""


class _Answer:
    """Passes on what the application sends, but for a large body that comes in one piece, which it keeps."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.begun = False
        self.large = b""
        self._start: Message | None = None

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        body: bytes = message.get("body", b"")
        if self._start is not None and len(body) > _PIECE and not message.get("more_body"):
            self.large = body
            return
        await self._begin()
        await self.send(message)

    async def write(self) -> None:
        """Send what was kept, at the client's pace."""
        await self._begin()
        for start in range(0, len(self.large), _PIECE):
            end = start + _PIECE
            more = end < len(self.large)
            await self.send({"type": "http.response.body", "body": self.large[start:end], "more_body": more})

    async def _begin(self) -> None:
        self.begun = True
        if self._start is not None:
            start, self._start = self._start, None
            await self.send(start)


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
