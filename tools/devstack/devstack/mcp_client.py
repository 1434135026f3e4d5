"""An MCP client as a person configures one: an address and a bearer token, the official SDK beneath."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent

TIMEOUT = 20.0
"""Seconds for one call. The hub gives a call 15."""


class ToolRefused(Exception):
    """The tool has answered with ``isError``. The message is its sentence."""


class McpClient:
    """Calls tools by name. `prefix` stands before each name, as the hub's aggregate wants it."""

    def __init__(self, client: Client, prefix: str = "") -> None:
        self._client = client
        self.prefix = prefix

    async def tools(self) -> list[str]:
        """The names of all tools, as the server lists them."""
        return [tool.name for tool in (await self._client.list_tools()).tools]

    async def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer's JSON object, read from its one text block. Raises `ToolRefused`."""
        result = await self._client.call_tool(f"{self.prefix}{tool}", dict(arguments or {}))
        [block] = result.content
        assert isinstance(block, TextContent)
        if result.is_error:
            raise ToolRefused(block.text)
        return json.loads(block.text)


@asynccontextmanager
async def mcp_client(
    url: str,
    token: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | bool = True,
    prefix: str = "",
    mode: Literal["auto", "legacy"] = "auto",
) -> AsyncIterator[McpClient]:
    """A client of the MCP server at `url`. `mode` is the SDK's: the newest protocol that both speak, or one with a handshake."""
    bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers={**bearer, **(headers or {})}, verify=tls, timeout=TIMEOUT) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield McpClient(client, prefix)


def client_configuration(url: str, token: str) -> str:
    """What a person pastes into the configuration of an assistant, as most of them read it."""
    server = {"type": "http", "url": url, "headers": {"Authorization": f"Bearer {token}"}}
    return json.dumps({"mcpServers": {"kedge": server}}, indent=2)
