"""The gateway with all its tools over a kcp that answers as a test says, and a client that sends whatever it is told to."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import uvicorn

from codecommon.kcp.kubeconfig import ApiServer
from codecommon.process.health import Readiness
from gateway.http_protocol import BoundedHttp
from gateway.mcp_server.endpoint import McpEndpoint
from gateway.mcp_server.server import ToolServer
from gateway.mcp_tools.read import read_tools
from gateway.mcp_tools.tool import Tool
from gateway.mcp_tools.write import write_tools
from gateway.routes import build_app
from gateway.settings import GatewaySettings

BOUND_SECONDS = 20
CLUSTER = "2x5yknxhwy4dkw5f"
IDENTITY = {
    b"X-Kedge-Tenant": CLUSTER.encode(),
    b"X-Kedge-Cluster": CLUSTER.encode(),
    b"Authorization": b"Bearer caller-token",
}
JSON = {b"Content-Type": b"application/json", b"Accept": b"application/json, text/event-stream"}


class Kcp(asyncio.Protocol):
    """Answers every request with ``answer``: a status and a body."""

    answer: tuple[int, bytes] = (200, b'{"metadata":{},"items":[]}')

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while True:
            head, end, body = self._received.partition(b"\r\n\r\n")
            length = int((head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]) or 0)
            if not end or len(body) < length:
                return
            self._received = body[length:]
            status, answer = self.answer
            self._transport.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(answer), answer))


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str
    body: bytes


@dataclass
class Client:
    """Sends one request after the other on a connection, and opens another one when the server has closed it."""

    port: int
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = field(default=None, init=False)

    async def send(self, body: bytes, headers: dict[bytes, bytes], path: bytes = b"/mcp") -> Answer:
        lines = b"".join(b"%b: %b\r\n" % header for header in headers.items())
        head = b"POST %b HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n" % (path, lines, len(body))
        async with asyncio.timeout(BOUND_SECONDS):
            answered = await self._answer_to(head + body)
            if not answered:
                # The server closes a connection that was idle for seconds, as it is when examples take long to make.
                await self.close()
                answered = await self._answer_to(head + body)
            assert self._streams is not None
            reader, _ = self._streams
            fields = dict(line.lower().split(b": ", 1) for line in answered.split(b"\r\n")[1:-2])
            if b"content-length" in fields:
                content = await reader.readexactly(int(fields[b"content-length"]))
            else:
                content = await reader.read()
            if fields.get(b"connection") == b"close" or b"content-length" not in fields:
                await self.close()
        return Answer(int(answered.split()[1]), fields.get(b"content-type", b"").decode(), content)

    async def _answer_to(self, request: bytes) -> bytes:
        """The head of the answer. Empty: the connection was there before, and was closed without one."""
        was_open = self._streams is not None
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        try:
            writer.write(request)
            return await reader.readuntil(b"\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            if not was_open or getattr(error, "partial", b""):
                raise
            return b""

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class FuzzedGateway:
    tools: dict[str, Tool]
    client: Client
    kcp: type[Kcp]

    async def post(self, body: bytes, headers: dict[bytes, bytes]) -> Answer:
        return await self.client.send(body, headers)


def _patient_for_nothing(tools: tuple[Tool, ...]) -> Iterator[Tool]:
    """The tools, whose waits are over at once."""

    async def pause(seconds: float) -> None:
        await asyncio.sleep(0)

    for tool in tools:
        if tool.name in ("wait_for", "validate_connection"):
            clock = partial(next, itertools.count(0.0, 1.0))
            yield replace(tool, handler=partial(tool.handler, sleep=pause, clock=clock))  # type: ignore[call-arg]
        else:
            yield tool


@asynccontextmanager
async def fuzzed_gateway() -> AsyncIterator[FuzzedGateway]:
    kcp = type("Kcp", (Kcp,), {})
    loop = asyncio.get_running_loop()
    stub = await loop.create_server(kcp, "127.0.0.1", 0)
    address = ApiServer(
        f"http://127.0.0.1:{stub.sockets[0].getsockname()[1]}/clusters/p1", ssl.create_default_context()
    )

    async def find() -> ApiServer:
        return address

    table = (*read_tools("default"), *write_tools(patience=0.01))
    settings = GatewaySettings.load({})
    tools = ToolServer(tuple(_patient_for_nothing(table)), settings, find)
    async with McpEndpoint(tools, settings.most_mcp_body_bytes) as endpoint:
        app = build_app(Readiness(), settings=settings, routes=endpoint.routes())
        server = uvicorn.Server(uvicorn.Config(app, http=BoundedHttp, ws="none", lifespan="off", log_config=None))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server._serve([listener]))
            client = Client(listener.getsockname()[1])
            try:
                yield FuzzedGateway({tool.name: tool for tool in table}, client, kcp)
            finally:
                await client.close()
                server.should_exit = True
                await serving
                stub.close()


def json_rpc(method: str, params: Any, **more: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params, **more}).encode()
