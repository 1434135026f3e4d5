"""How the hub asks a provider's MCP endpoint (hub-contract.md §5.2): the same bytes, limits and ways to fail.

The request is that of Go's HTTP client: header names, their order, and no port in ``Host``.
"""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass
from typing import Any

import aiohttp
from multidict import CIMultiDict

from devstack.devhub.registry import ProviderRecord

Json = dict[str, Any]

INITIALIZE: Json = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "kedge-aggregate", "version": "v1"},
}
NO_MCP_HERE = (404, 405)
SHOWN_BYTES = 200
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Limits:
    """Seconds for finding out a provider's tools, and for each request; bytes of an answer that are read."""

    discovery: float = 8.0
    request: float = 15.0
    answer_bytes: int = 8 << 20


class FederationError(Exception):
    """The provider did not answer in a way that the hub understands. The text is for the caller."""


class NoMcp(FederationError):
    """The provider has no MCP endpoint. The hub leaves it out and says nothing."""


def open_federation_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())


class ProviderMcp:
    """One provider's MCP endpoint, asked for the holder of `token`.

    `cluster` is a segment of the URL that the caller asked for. Nobody has verified it, and it goes into both headers.
    """

    def __init__(
        self, session: aiohttp.ClientSession, provider: ProviderRecord, token: str, cluster: str, limits: Limits
    ) -> None:
        self.provider = provider
        self._session = session
        self._token = token
        self._cluster = cluster
        self._limits = limits

    async def discover(self) -> tuple[str, list[Json]]:
        """The provider's instructions and its tools; raises `FederationError`."""
        try:
            async with asyncio.timeout(self._limits.discovery):
                return await self._instructions(), _tools_of(await self._request("tools/list", {}))
        except TimeoutError:
            raise FederationError(f"{self.provider.name}: no answer within {self._limits.discovery:g} s") from None

    async def _instructions(self) -> str:
        try:
            found = (await self._request("initialize", INITIALIZE)).get("instructions")
        except FederationError:
            return ""
        return found if isinstance(found, str) else ""

    async def call(self, tool: str, arguments: Json) -> Json:
        """The result of ``tools/call``; raises `FederationError`."""
        return await self._request("tools/call", {"name": tool, "arguments": arguments})

    async def _request(self, method: str, params: Json) -> Json:
        assert self.provider.backend_url is not None
        body = request_body(method, params)
        try:
            async with self._session.post(
                self.provider.backend_url.rstrip("/") + "/mcp",
                # In pieces: of a large body in one piece aiohttp warns.
                data=io.BytesIO(body),
                headers=request_headers(self._token, self._cluster, len(body)),
                timeout=aiohttp.ClientTimeout(total=self._limits.request),
            ) as response:
                return _result_of(self.provider.name, response, await self._read(response))
        except TimeoutError:
            raise FederationError(f"{self.provider.name}: no answer within {self._limits.request:g} s") from None
        except (aiohttp.ClientError, ValueError) as problem:
            raise FederationError(f"{self.provider.name}: {problem}") from problem

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, cut off without a word at the limit."""
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk[: self._limits.answer_bytes - len(body)]
            if len(body) == self._limits.answer_bytes:
                break
        return bytes(body)


def request_headers(token: str, cluster: str, length: int) -> CIMultiDict[str]:
    """In the order in which they are sent, for a body of `length` bytes."""
    return CIMultiDict(
        (
            ("Host", "localhost"),
            ("User-Agent", "Go-http-client/1.1"),
            ("Content-Length", str(length)),
            ("Accept", "application/json, text/event-stream"),
            ("Authorization", f"Bearer {token}"),
            ("Content-Type", "application/json"),
            ("X-Kedge-Cluster", cluster),
            ("X-Kedge-Tenant", cluster),
            ("Accept-Encoding", "gzip"),
        )
    )


def request_body(method: str, params: Json) -> bytes:
    return _encoded({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


def _result_of(name: str, response: aiohttp.ClientResponse, body: bytes) -> Json:
    if response.status in NO_MCP_HERE:
        raise NoMcp(f"{name} has no MCP endpoint")
    if response.status >= 400:
        raise FederationError(f"{name}: HTTP {response.status}: {body[:SHOWN_BYTES].decode(errors='replace')}")
    if response.headers.get("Content-Type", "").startswith("text/event-stream"):
        body = next((line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")), b"")
    answer = json.loads(body)
    if not isinstance(answer, dict):
        raise FederationError(f"{name}: the answer is no JSON-RPC message")
    if answer.get("error"):
        raise FederationError(f"{name}: {_message_of(answer['error'])}")
    result = answer.get("result")
    if not isinstance(result, dict):
        raise FederationError(f"{name}: the answer has no result")
    return result


def _message_of(error: Any) -> str:
    return str(error.get("message")) if isinstance(error, dict) else str(error)


def _tools_of(result: Json) -> list[Json]:
    """The tools of the first page. One that cannot be decoded spoils the list."""
    tools = result.get("tools") or []
    if not isinstance(tools, list):
        raise FederationError("tools is no list")
    for tool in tools:
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            raise FederationError("a tool has no name")
        if not isinstance(tool.get("annotations", {}), dict | None):
            raise FederationError(f"the annotations of {tool['name']} are no object")
    return tools


def _encoded(message: Json) -> bytes:
    """JSON as Go's encoder writes it: no spaces, UTF-8, and these three escaped."""
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode(errors="surrogatepass")
