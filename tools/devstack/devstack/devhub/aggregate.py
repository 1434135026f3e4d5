"""The MCP endpoint of a workspace, with the tools of every provider that is ready (hub-contract.md §5.1).

Each request, a ``tools/call`` too, first asks every provider for its instructions and tools. The hub's server is the Go
SDK's in its stateless form; this is as much of that as clients use. The texts of instructions and of ``kedge://about`` are
not the hub's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from devstack.devhub.federation import FederationError, Json, Limits, NoMcp, ProviderMcp
from devstack.devhub.identity import bearer
from devstack.devhub.proxy import decoded_path
from devstack.devhub.registry import ProviderRegistry

PREFIX = "/services/mcpserver/"
VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
ABOUT = "kedge://about"

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
RESOURCE_NOT_FOUND = -32002

_PATH = re.compile(PREFIX + r"([^/]+)/apis/kedge\.faros\.sh/v1alpha1/mcpservers/([^/]+)/mcp")

_log = logging.getLogger(__name__)


@dataclass
class Federated:
    """What the providers offer one caller: tools by their name here, with the provider and its name for the tool."""

    instructions: list[str] = field(default_factory=list)
    tools: dict[str, Json] = field(default_factory=dict)
    targets: dict[str, tuple[ProviderMcp, str]] = field(default_factory=dict)

    def add(self, source: ProviderMcp, instructions: str, tools: list[Json]) -> None:
        name, display_name = source.provider.name, source.provider.spec["displayName"]
        if instructions:
            self.instructions.append(f"## {display_name}\n\n{instructions}")
        for tool in tools:
            schema = tool.get("inputSchema")
            if not isinstance(schema, dict) or schema.get("type") != "object":
                # The Go SDK panics here. The hub recovers, and that tool is not there.
                continue
            here = f"{name}__{tool['name']}"
            kept = {
                key: tool[key] for key in ("description", "annotations", "inputSchema") if tool.get(key) is not None
            }
            title = f"{tool.get('title') or tool['name']} — {display_name}"
            self.tools[here] = {"name": here, "title": title, **kept}
            self.targets[here] = (source, tool["name"])


class RpcError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Aggregate:
    """Serves the endpoint. It checks neither the token nor the cluster, as the hub does not."""

    def __init__(
        self, registry: ProviderRegistry, session: aiohttp.ClientSession, limits: Limits | None = None
    ) -> None:
        self._registry = registry
        self._session = session
        self._limits = limits or Limits()

    def add_to(self, app: web.Application) -> None:
        app.router.add_route("*", f"{PREFIX}{{rest:(?s:.*)}}", self._handle)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        found = _PATH.fullmatch(decoded_path(request))
        if found is None:
            return web.Response(status=400, text="the path must name a cluster and an MCPServer")
        token = bearer(request)
        if token is None:
            return web.Response(status=401, text="no bearer token")
        if request.method != "POST":
            return web.Response(status=405, text="this server keeps no sessions", headers={"Allow": "POST"})
        refusal = _refused(request)
        if refusal is not None:
            return web.Response(status=400, text=refusal)
        try:
            message = json.loads(await request.read())
        except ValueError:
            return _message({"id": None, "error": {"code": PARSE_ERROR, "message": "the body is no JSON"}}, status=400)
        if not isinstance(message, dict) or not isinstance(message.get("method"), str):
            error = {"code": INVALID_REQUEST, "message": "the body is no JSON-RPC request"}
            return _message({"id": None, "error": error}, status=400)
        federated = await self.federate(token, cluster=found[1])
        if "id" not in message:
            return web.Response(status=202)
        try:
            params = message.get("params") or {}
            outcome: Json = {"result": await _answer(federated, message["method"], params)}
        except RpcError as problem:
            outcome = {"error": {"code": problem.code, "message": str(problem)}}
        return _message({"id": message["id"], **outcome})

    async def federate(self, token: str, cluster: str) -> Federated:
        """Asks all providers at once. One that fails is left out."""
        sources = [
            ProviderMcp(self._session, provider, token, cluster, self._limits)
            for provider in self._registry.ready_backends()
        ]
        answers = await asyncio.gather(*(source.discover() for source in sources), return_exceptions=True)
        federated = Federated()
        for source, answer in zip(sources, answers, strict=True):
            if isinstance(answer, FederationError):
                if not isinstance(answer, NoMcp):
                    _log.warning("the tools of a provider are left out: %s", answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                federated.add(source, *answer)
        return federated


def _refused(request: web.Request) -> str | None:
    accept = request.headers.get("Accept", "")
    if not all(kind in accept or "*/*" in accept for kind in ("application/json", "text/event-stream")):
        return "Accept must contain both 'application/json' and 'text/event-stream'"
    version = request.headers.get("Mcp-Protocol-Version")
    if version and version not in VERSIONS:
        return f"Bad Request: Unsupported protocol version (supported versions: {','.join(VERSIONS)})"
    return None


def _message(content: Json, *, status: int = 200) -> web.Response:
    """One JSON-RPC answer, as the only event of a stream."""
    text = json.dumps({"jsonrpc": "2.0", **content}, ensure_ascii=False)
    return web.Response(
        status=status,
        text=f"event: message\ndata: {text}\n\n",
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache, no-transform"},
    )


async def _answer(federated: Federated, method: str, params: Json) -> Json:
    match method:
        case "initialize":
            asked = params.get("protocolVersion")
            return {
                "protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
                "capabilities": {"resources": {}, "tools": {}},
                "serverInfo": {"name": "kedge-mcpserver", "version": "v1alpha1"},
                "instructions": "\n\n".join(federated.instructions),
            }
        case "ping":
            return {}
        case "tools/list":
            return {"tools": [tool for _, tool in sorted(federated.tools.items())]}
        case "tools/call":
            return await _call(federated, params)
        case "resources/list":
            return {"resources": [{"uri": ABOUT, "name": "about", "mimeType": "text/plain"}]}
        case "resources/read":
            if params.get("uri") != ABOUT:
                raise RpcError(RESOURCE_NOT_FOUND, "Resource not found")
            text = f"The tools of a kedge workspace: {', '.join(sorted(federated.tools)) or 'none'}."
            return {"contents": [{"uri": ABOUT, "mimeType": "text/plain", "text": text}]}
        case _:
            raise RpcError(METHOD_NOT_FOUND, f"method not found: {method!r}")


async def _call(federated: Federated, params: Json) -> Json:
    name = params.get("name")
    if name not in federated.targets:
        raise RpcError(INVALID_PARAMS, f"unknown tool {json.dumps(name)}")
    source, tool = federated.targets[name]
    try:
        result = await source.call(tool, params.get("arguments") or {})
    except FederationError as problem:
        raise RpcError(INTERNAL_ERROR, str(problem)) from problem
    kept = {key: result[key] for key in ("_meta", "structuredContent") if result.get(key) is not None}
    failed = {"isError": True} if result.get("isError") is True else {}
    return {"content": result.get("content") or [], **kept, **failed}
