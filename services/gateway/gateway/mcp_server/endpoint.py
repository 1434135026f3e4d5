"""MCP as an ASGI application. No session: any replica answers any request, with one JSON document.

The hub calls with ``Host: localhost``, and proxies in front of us with any. So neither Host nor Origin is checked. Such a check
protects a server that trusts whoever reaches it. This one does nothing without a bearer token, which no browser sends by itself.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import Final, Self

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from gateway.mcp_server import made_once
from gateway.mcp_server.server import ToolServer

PATHS: Final = ("/mcp", "/mcp/sse")
_SMALL_BODY: Final = 64 << 10
_MOST_BYTES_IN_FLIGHT: Final = 64 << 20
"""Of all larger bodies together, so that a few strangers do not fill the memory. A small request is never turned away."""
_FINISH_SECONDS: Final = 1.0


class McpEndpoint:
    """Serves a ``ToolServer``. Use as an async context manager around the time in which it is called."""

    def __init__(self, tools: ToolServer, max_body_bytes: int) -> None:
        # It would log a line about every request that has no session.
        logging.getLogger("mcp.server.streamable_http").setLevel(logging.WARNING)
        self._tools = tools
        self._max_body_bytes = max_body_bytes
        self._bytes_in_flight = 0
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
        await self._tools.finish(_FINISH_SECONDS)
        await self._stack.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope["method"] != "POST":
            # A GET would open a stream on which nothing is ever sent.
            await Response(status_code=405, headers={"Allow": "POST"})(scope, receive, send)
            return
        body = _Body(self)
        try:
            refusal = await body.read(headers, receive)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
            answer = made_once.answer(self._tools, headers, body.received)
            if answer is not None:
                await Response(answer, media_type="application/json")(scope, receive, send)
                return
            await self._sessions.handle_request(scope, body.replay(receive), send)
        finally:
            self._bytes_in_flight -= body.counted

    def take(self, size: int) -> bool:
        """Count ``size`` more bytes in flight, unless they are too many."""
        if self._bytes_in_flight + size > _MOST_BYTES_IN_FLIGHT:
            return False
        self._bytes_in_flight += size
        return True

    @property
    def max_body_bytes(self) -> int:
        return self._max_body_bytes


class _Body:
    """The body of one request, read whole before anything looks at it."""

    def __init__(self, endpoint: McpEndpoint) -> None:
        self._endpoint = endpoint
        self.received = b""
        self.counted = 0

    async def read(self, headers: Headers, receive: Receive) -> Response | None:
        """The refusal of a body that is too large or comes at a bad time, or None."""
        limit = self._endpoint.max_body_bytes
        too_large = JSONResponse({"error": f"the body is larger than {limit} bytes"}, 413)
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared[:20]) > limit:
            return too_large
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                # The caller has gone before the request was complete.
                return Response(status_code=400)
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limit:
                return too_large
            if size > _SMALL_BODY:
                if not self._endpoint.take(size - self.counted):
                    return JSONResponse({"error": "too many large requests at once"}, 503, headers={"Retry-After": "2"})
                self.counted = size
            parts.append(part)
            if not message.get("more_body", False):
                self.received = parts[0] if len(parts) == 1 else b"".join(parts)
                return None

    def replay(self, receive: Receive) -> Receive:
        """``receive`` as it was before the body was read."""
        message: Message | None = {"type": "http.request", "body": self.received, "more_body": False}

        async def again() -> Message:
            nonlocal message
            if message is None:
                return await receive()
            first, message = message, None
            return first

        return again
