"""The two processes beside the gateway in ``make bench-mcp``: a kcp that answers at once, and the bare MCP SDK.

Both print the port that they listen on.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import orjson
import uvicorn
import uvloop
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from codecommon.kcp.client import CallerKcp, Objects
from codecommon.kcp.identity import CallerIdentity, ProviderIdentity
from codecommon.process.secrets import SecretValue
from codecommon.testing.builders import connection_object
from devstack.devhub.certificate import server_context
from devstack.ports import LOOPBACK
from gateway.mcp_server.server import _listed as listed
from gateway.mcp_tools.table import tools
from gateway.mcp_tools.tool import Call

CLUSTER = "2x5yknxhwy4dkw5f"


class Answer(asyncio.Protocol):
    """HTTP/1.1 in its shortest form: each request without a body gets the same answer."""

    def __init__(self, body: bytes) -> None:
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )
        self._head = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._head += data
        while b"\r\n\r\n" in self._head:
            _, _, self._head = self._head.partition(b"\r\n\r\n")
            self._transport.write(self._answer)


async def serve_kcp(folder: Path | None) -> None:
    """A workspace with three Connections, whatever is asked. With a folder: over TLS."""
    items = [connection_object(name) for name in ("first", "second", "third")]
    body = orjson.dumps({"kind": "ConnectionList", "metadata": {"resourceVersion": "1"}, "items": items})
    tls: ssl.SSLContext | None = server_context(folder) if folder else None
    server = await asyncio.get_running_loop().create_server(lambda: Answer(body), LOOPBACK, 0, ssl=tls)
    print("listening on port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def bare_server(objects: Objects) -> Server[Any]:
    """The SDK's low-level server over the gateway's table, with nothing around it. One session to kcp for all calls."""
    table = {tool.name: tool for tool in tools("default", confirm_deletes=False)}
    result = types.ListToolsResult(tools=[listed(tool) for tool in table.values()])

    async def on_list(ctx: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return result

    async def on_call(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        value = await table[params.name].handler(Call(objects, params.arguments or {}))
        text = orjson.dumps(value).decode()
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=value)

    return Server("bare", on_list_tools=on_list, on_call_tool=on_call)


async def serve_bare(kubeconfig: Path) -> None:
    async with (
        ProviderIdentity(kubeconfig) as provider,
        CallerIdentity(await provider.server(), SecretValue("caller-token")) as caller,
    ):
        manager = StreamableHTTPSessionManager(
            bare_server(CallerKcp(caller).objects(CLUSTER)),
            json_response=True,
            stateless=True,
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )

        class Endpoint:
            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                await manager.handle_request(scope, receive, send)

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            async with manager.run():
                yield

        app = Starlette(routes=[Route("/mcp", Endpoint())], lifespan=lifespan)
        config = uvicorn.Config(app, LOOPBACK, 0, http="httptools", ws="none", log_config=None, access_log=False)
        config.load()
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print("listening on port", server.servers[0].sockets[0].getsockname()[1], flush=True)
        await serving


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("kcp").add_argument("folder", type=Path, nargs="?")
    commands.add_parser("bare").add_argument("kubeconfig", type=Path)
    arguments = parser.parse_args()
    work = serve_kcp(arguments.folder) if arguments.command == "kcp" else serve_bare(arguments.kubeconfig)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


if __name__ == "__main__":
    sys.exit(main())
