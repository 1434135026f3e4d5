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
Address = tuple[str, int]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers once the whole body is there."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


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
