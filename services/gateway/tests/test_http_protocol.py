"""Requests that never end, over a real socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from gateway.http_protocol import BoundedHttp

BOUND_SECONDS = 20
LARGE = 16 << 20
"""More than the buffers of a socket take."""
Address = tuple[str, int]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers once the whole body is there."""
    while (await receive()).get("more_body"):
        pass
    body = b"ok" if scope["path"] == "/" else b"x" * LARGE
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    if scope["path"] == "/large":
        for start in range(0, LARGE, 1 << 20):
            await send({"type": "http.response.body", "body": body[start : start + (1 << 20)], "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def address() -> AsyncIterator[Address]:
    server = uvicorn.Server(uvicorn.Config(app, http=BoundedHttp, ws="none", lifespan="off", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server._serve([listener]))
        try:
            yield listener.getsockname()
        finally:
            server.should_exit = True
            await serving


class Lost:
    """Notes the end of each connection, as the server sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.event = asyncio.Event()
        lost = BoundedHttp.connection_lost

        def connection_lost(protocol: BoundedHttp, exc: Exception | None) -> None:
            lost(protocol, exc)
            self.event.set()

        monkeypatch.setattr(BoundedHttp, "connection_lost", connection_lost)

    async def wait(self) -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            await self.event.wait()


async def answer(address: Address, request: bytes) -> bytes:
    """Everything that comes until the server closes the connection."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            writer.write(request)
            return await reader.read()
    except ConnectionResetError:  # it was closed with bytes of ours unread
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "request_", [b"", b"GET / HT", b"GET / HTTP/1.1\r\na: b\r\n", b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab"]
)
async def test_a_request_that_is_never_complete_is_closed(
    address: Address, monkeypatch: pytest.MonkeyPatch, request_: bytes
) -> None:
    monkeypatch.setattr(BoundedHttp, "request_seconds", 0.2)

    assert await answer(address, request_) == b""


async def test_so_is_the_second_request_of_a_connection(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHttp, "request_seconds", 0.2)

    assert (await answer(address, b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\na:")).count(b"200 OK") == 1


async def test_a_head_without_end_is_closed_and_a_large_body_is_not(address: Address) -> None:
    size = 4 * BoundedHttp.most_head_bytes
    body = b"POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size

    assert b"200 OK" not in await answer(address, b"GET / HTTP/1.1\r\na: " + b"x" * size)
    assert b"200 OK" in await answer(address, body)


@pytest.mark.parametrize(
    "start", [b"0\r\n", b"1;ext=", b"5\r\nhello\r\n0\r\na: "], ids=["trailers", "chunk extension", "one long trailer"]
)
async def test_what_is_neither_head_nor_body_has_a_bound_too(address: Address, start: bytes) -> None:
    head = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
    line = b"a: %s\r\n" % (b"x" * 1000) if start == b"0\r\n" else b"x" * 1000

    assert b"200 OK" not in await answer(address, head + start + line * (8 * BoundedHttp.most_head_bytes // 1000))


@pytest.mark.parametrize("path", [b"large", b"at-once"])
@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
async def test_a_client_that_never_reads_its_answer_is_cut_off(
    address: Address, monkeypatch: pytest.MonkeyPatch, connection: bytes, path: bytes
) -> None:
    monkeypatch.setattr(BoundedHttp, "request_seconds", 0.2)
    lost = Lost(monkeypatch)
    with socket.create_connection(address) as client:
        client.sendall(b"GET /%s HTTP/1.1\r\nconnection: %s\r\n\r\n" % (path, connection))
        await lost.wait()


async def test_a_client_that_reads_gets_a_large_answer_whole(address: Address) -> None:
    whole = await answer(address, b"GET /large HTTP/1.1\r\nconnection: close\r\n\r\n")

    assert len(whole) > LARGE
