"""MCP as an ASGI application. No session: any replica answers any request, with one JSON document.

The hub calls with ``Host: localhost``, and proxies in front of us with any. So neither Host nor Origin is checked. Such a check
protects a server that trusts whoever reaches it. This one does nothing without a bearer token, which no browser sends by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, Self

import orjson
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from gateway.mcp_server.server import ToolServer

PATHS: Final = ("/mcp", "/mcp/sse")
_SMALL_BODY: Final = 64 << 10
_MOST_BYTES_IN_FLIGHT: Final = 64 << 20
"""Of all larger bodies together, so that a few strangers do not fill the memory. A small request is never turned away."""
_LONGEST_LIST_REQUEST: Final = 1 << 10
_LIST_KEYS: Final = frozenset({"jsonrpc", "id", "method", "params"})
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
            listed = self._listed(headers, body.received)
            if listed is not None:
                await Response(listed, media_type="application/json")(scope, receive, send)
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

    def _listed(self, headers: Headers, body: bytes) -> bytes | None:
        """The answer to a ``tools/list`` in the form that the hub sends before every call. None: the SDK answers.

        These are the bytes that the SDK would make, without its work for each request.
        """
        if len(body) > _LONGEST_LIST_REQUEST or b"tools/list" not in body or not _is_plain_json(headers):
            return None
        try:
            request: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(request, dict) or not request.keys() <= _LIST_KEYS:
            return None
        fields: Mapping[str, Any] = request
        number = fields.get("id")
        if (
            fields.get("jsonrpc") != "2.0"
            or fields.get("method") != "tools/list"
            or fields.get("params", {}) != {}
            or type(number) not in (int, str)
        ):
            return None
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (orjson.dumps(number), self._tools.list_json(headers))


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


def _is_plain_json(headers: Headers) -> bool:
    """Whether the headers are beyond doubt those of a request of a revision with a handshake."""
    return (
        headers.get("content-type") == "application/json"
        and "application/json" in headers.get("accept", "")
        and headers.get("mcp-protocol-version", HANDSHAKE_PROTOCOL_VERSIONS[0]) in HANDSHAKE_PROTOCOL_VERSIONS
    )
