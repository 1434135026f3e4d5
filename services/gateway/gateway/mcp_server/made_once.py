"""The answers that the hub asks for before every call of any tool: ``initialize`` and ``tools/list``.

They are the same for everybody, so their bytes are made once: those that the SDK would answer, without its work for each request.
A request in any other form than the hub's is left to the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers

from gateway.mcp_server.server import ToolServer

LONGEST_REQUEST: Final = 1 << 10
_FIELDS: Final = frozenset({"jsonrpc", "id", "method", "params"})


def answer(server: ToolServer, headers: Headers, body: bytes) -> bytes | None:
    """The answer to the request. None: it is another one, or in another form."""
    if len(body) > LONGEST_REQUEST or not (b'"tools/list"' in body or b'"initialize"' in body):
        return None
    if not _is_plain_json(headers):
        return None
    try:
        request: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(request, dict) or not request.keys() <= _FIELDS:
        return None
    fields: Mapping[str, Any] = request
    number, params = fields.get("id"), fields.get("params", {})
    if fields.get("jsonrpc") != "2.0" or type(number) not in (int, str):
        return None
    match fields.get("method"):
        case "tools/list" if params == {}:
            result = server.list_json(headers)
        case "initialize" if _is_plain_initialize(params):
            result = server.initialize_json[params["protocolVersion"]]
        case _:
            return None
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (orjson.dumps(number), result)


def _is_plain_json(headers: Headers) -> bool:
    """Whether the headers are beyond doubt those of a request of a revision with a handshake."""
    return (
        headers.get("content-type") == "application/json"
        and "application/json" in headers.get("accept", "")
        and headers.get("mcp-protocol-version", HANDSHAKE_PROTOCOL_VERSIONS[0]) in HANDSHAKE_PROTOCOL_VERSIONS
    )


def _is_plain_initialize(params: Any) -> bool:
    match params:
        case {
            "protocolVersion": str(version),
            "capabilities": {**capabilities},
            "clientInfo": {"name": str(), "version": str(), **more},
            **others,
        }:
            return version in HANDSHAKE_PROTOCOL_VERSIONS and not (capabilities or more or others)
        case _:
            return False
