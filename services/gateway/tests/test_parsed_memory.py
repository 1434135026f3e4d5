"""What large documents take once they are parsed is bounded for all of them together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import Message

from codecommon.kcp.kubeconfig import ApiServer, KubeconfigError
from gateway import time_limits
from gateway.mcp_server import parsed_memory
from gateway.mcp_server.endpoint import McpEndpoint
from gateway.mcp_server.parsed_memory import LARGE, NoTurn, ParsedMemory
from gateway.mcp_server.server import ToolServer
from gateway.mcp_settings import McpSettings
from gateway.mcp_tools.table import tools

LONG = 100 << 10
LONGEST = 60.0
"""Seconds after which a test that hangs has failed."""
TURNS = 50
"""Of the loop. A document that there is room for is read in a few, however long they take on a busy machine."""
HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "x-kedge-tenant": "c1",
    "x-kedge-cluster": "c1",
    "authorization": "Bearer caller-token",
}
NEWEST = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "commit_files"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def in_time() -> float:
    return asyncio.get_running_loop().time() + LONGEST


@pytest.mark.parametrize(
    ("letters", "each"),
    [
        (b"a", 1),
        ("\xe9".encode(), 1),
        ("\u2014".encode(), 2),
        (rb"\u2014", 2),
        ("\u4e2d".encode() * 1000, 2),
        ("\U0001f600".encode(), 4),
        (rb"\ud83d\ude00", 4),
        (rb"\uD83D\uDE00", 4),
    ],
)
@pytest.mark.parametrize("piece", [256 << 10, 64 << 10, (64 << 10) + 1, (64 << 10) + 2])
async def test_a_document_counts_as_its_letters_take_in_memory(
    monkeypatch: pytest.MonkeyPatch, letters: bytes, each: int, piece: int
) -> None:
    monkeypatch.setattr(parsed_memory, "_PIECE", piece)
    document = (b"x" * (64 << 10) + letters).ljust(LONG, b"x")
    for room, is_enough in ((each * LONG + LARGE, False), (each * LONG + LARGE + 1, True)):
        memory = ParsedMemory(room)
        async with memory.hold(document, in_time()):
            assert await has_room(memory, b"x" * (LARGE + 1)) == is_enough


async def test_a_document_larger_than_all_room_is_alone_and_the_next_one_waits_for_it() -> None:
    memory = ParsedMemory(LONG // 2)
    async with memory.hold(b"x" * LONG, in_time()):
        next_one = asyncio.create_task(be_held(memory, b"x" * LONG))
        assert not await has_room(memory, b"x" * LONG)
        assert not next_one.done()
    await next_one


async def test_who_gave_up_takes_no_room() -> None:
    memory = ParsedMemory(LONG)
    async with memory.hold(b"x" * LONG, in_time()):
        with pytest.raises(NoTurn):
            await be_held(memory, b"x" * LONG, 0.02)
    await be_held(memory, b"x" * LONG)


async def test_a_small_document_never_waits() -> None:
    memory = ParsedMemory(LONG)
    async with memory.hold(b"x" * LONG, in_time()):
        assert await has_room(memory, b"x" * LARGE)


async def be_held(memory: ParsedMemory, document: bytes, seconds: float = LONGEST) -> None:
    async with memory.hold(document, asyncio.get_running_loop().time() + seconds):
        pass


async def has_room(memory: ParsedMemory, document: bytes) -> bool:
    """Whether there is room now, without anybody leaving."""
    asked = asyncio.create_task(be_held(memory, document))
    for _ in range(TURNS):
        await asyncio.sleep(0)
    has = asked.done()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    return has


class Gateway:
    """With room for one large request. Calls wait for ``kcp`` to be set."""

    def __init__(self, endpoint: McpEndpoint, kcp: asyncio.Event, begun: asyncio.Event) -> None:
        self._endpoint = endpoint
        self.kcp = kcp
        self.begun = begun
        self.headers = dict[str, str]()

    async def ask(self, *, newest: bool = False) -> int:
        """The status of the answer."""
        arguments = {"repositoryRef": "site", "files": [{"path": "a", "content": "\U0001f600" + "x" * LONG}]}
        params: dict[str, Any] = {"name": "commit_files", "arguments": arguments} | ({"_meta": META} if newest else {})
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        messages = [{"type": "http.request", "body": json.dumps(message, ensure_ascii=False).encode()}]
        headers = HEADERS | (NEWEST if newest else {})
        status = 0

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            self.headers.update((name.decode(), value.decode()) for name, value in message.get("headers", ()))

        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/mcp",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        await asyncio.wait_for(self._endpoint(scope, receive, send), LONGEST)
        return status


@asynccontextmanager
async def gateway() -> AsyncIterator[Gateway]:
    kcp, begun = asyncio.Event(), asyncio.Event()

    async def find() -> ApiServer:
        begun.set()
        await kcp.wait()
        raise KubeconfigError("there is none")

    server = ToolServer(tools("default", confirm_deletes=False), McpSettings(), find)
    async with McpEndpoint(server, 1 << 20, 2 * LONG) as endpoint:
        try:
            yield Gateway(endpoint, kcp, begun)
        finally:
            kcp.set()


@pytest.mark.parametrize("newest", [False, True], ids=["with handshake", "newest"])
async def test_a_large_request_waits_its_turn_and_is_told_when_to_ask_again(
    monkeypatch: pytest.MonkeyPatch, newest: bool
) -> None:
    async with gateway() as site:
        first = asyncio.create_task(site.ask(newest=newest))
        await asyncio.wait_for(site.begun.wait(), LONGEST)
        with monkeypatch.context() as patch:
            patch.setattr(time_limits, "TURN", 0.02)
            assert await site.ask(newest=newest) == 503
            assert site.headers["retry-after"] == "1"
        monkeypatch.setattr(time_limits, "TURN", LONGEST)
        third = asyncio.create_task(site.ask(newest=newest))
        site.kcp.set()
        assert (await first, await third) == (200, 200)
