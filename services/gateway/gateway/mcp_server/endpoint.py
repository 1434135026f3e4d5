"""MCP as an ASGI application. No session: any replica answers any request, with one JSON document.

The hub calls with ``Host: localhost``, and proxies in front of us with any. So neither Host nor Origin is checked. Such a check
protects a server that trusts whoever reaches it. This one does nothing without a bearer token, which no browser sends by itself.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Final, Self

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import INVALID_REQUEST
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from gateway import time_limits
from gateway.mcp_server import batches, made_once
from gateway.mcp_server.large_json import LargeJson
from gateway.mcp_server.parsed_memory import NoTurn, ParsedMemory
from gateway.mcp_server.server import ToolServer
from gateway.metrics import REFUSED

PATHS: Final = ("/mcp", "/mcp/sse")


class McpEndpoint:
    """Serves a ``ToolServer``. Use as an async context manager around the time in which it is called.

    ``max_body_bytes``: what the SDK takes of one request. ``Bounded`` in front of it bounds all requests together.
    ``most_parsed_bytes``: what large requests take together once they are parsed; None: twice the longest one.
    """

    def __init__(self, tools: ToolServer, max_body_bytes: int, most_parsed_bytes: int | None = None) -> None:
        # It would log a line about every request that has no session.
        logging.getLogger("mcp.server.streamable_http").setLevel(logging.WARNING)
        self._tools = tools
        self._large = LargeJson()
        self._memory = ParsedMemory(most_parsed_bytes or 2 * max_body_bytes)
        self._sessions = StreamableHTTPSessionManager(
            tools.sdk,
            json_response=True,
            stateless=True,
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            max_request_body_size=max_body_bytes,
        )
        self._stack = AsyncExitStack()

    def routes(self) -> list[BaseRoute]:
        return [Route(path, self) for path in PATHS]

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._sessions.run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await self._tools.finish()
        finally:
            await self._stack.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            # A GET would open a stream on which nothing is ever sent.
            await Response(status_code=405, headers={"Allow": "POST"})(scope, receive, send)
            return
        # ``Bounded`` has read the body and gives it in one piece.
        body: bytes = (await receive())["body"]
        refusal = await self._large.refusal(body)
        if refusal is not None:
            REFUSED.labels("values").inc()
            await _refusal(refusal)(scope, receive, send)
            return
        until = asyncio.get_running_loop().time() + time_limits.TURN
        try:
            async with self._memory.hold(body, until):
                await self._answer_all(scope, body, receive, send)
        except NoTurn:
            REFUSED.labels("full").inc()
            detail = "Other large requests are being worked on at this moment. Try again."
            await JSONResponse({"detail": detail}, 503, {"Retry-After": "1"})(scope, receive, send)

    async def _answer_all(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Answer a request, which is one message or a batch of them."""

        async def answer(body: bytes, send: Send) -> None:
            await self._answer(scope, body, receive, send)

        try:
            batch = batches.messages(Headers(scope=scope), body)
        except batches.BatchTooLong as error:
            await _refusal(str(error))(scope, receive, send)
            return
        if batch is None:
            await answer(body, send)
        else:
            await (await batches.answered(batch, answer))(scope, receive, send)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Answer one message of JSON-RPC."""
        made = made_once.answer(self._tools, Headers(scope=scope), body)
        if made is not None:
            await Response(made, media_type="application/json")(scope, receive, send)
            return
        request: Message = {"type": "http.request", "body": body, "more_body": False}
        await self._sessions.handle_request(scope, _first(request, receive), send)


def _refusal(message: str) -> Response:
    error = {"code": INVALID_REQUEST, "message": message}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, 400)


def _first(message: Message, receive: Receive) -> Receive:
    """What gives ``message``, and then what ``receive`` gives."""
    messages = [message]

    async def first() -> Message:
        return messages.pop() if messages else await receive()

    return first
