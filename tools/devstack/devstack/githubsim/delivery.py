"""How an answer reaches the client: encoded with its ETag, and, under a fault, late, broken or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
from dataclasses import dataclass

import orjson
from aiohttp import web

from devstack.githubsim.calls import Answer

JSON = "application/json; charset=utf-8"
RAW = "application/vnd.github.raw+json; charset=utf-8"

_HANG_POLL = 0.02
# l_onoff=1, l_linger=0: closing sends a reset and discards what was not yet sent.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

BAD_GATEWAY_PAGE = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n"
    b"<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)


@dataclass(slots=True)
class Encoded:
    """A response as bytes."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    def response(self) -> web.Response:
        return web.Response(status=self.status, headers=self.headers, body=self.body or None)


def encode(answer: Answer, request: web.Request) -> Encoded:
    """The answer as bytes; 304 without a body if the request names the ETag that the answer has now.

    As on GitHub the ETag depends on the credential and the accepted media type besides the body, and is
    weak where the answer may be compressed on its way. What a list has beside the page does not change it, and a 304
    does not tell.
    """
    headers = dict(answer.headers)
    if answer.raw is not None:
        return Encoded(answer.status, headers | {"Content-Type": RAW}, answer.raw)
    if answer.body is None:
        return Encoded(answer.status, headers)
    body = orjson.dumps(answer.body)
    headers["Content-Type"] = JSON
    if answer.status in (200, 201):
        names = ("Accept", "Authorization", "Cookie")
        salt = ":".join(request.headers[name] for name in names if name in request.headers)
        tag = f'"{hashlib.sha256(salt.encode() + body).hexdigest()}"'
        headers["ETag"] = f"W/{tag}" if "gzip" in request.headers.get("Accept-Encoding", "") else tag
        if request.method == "GET" and tag in _tags(request.headers.get("If-None-Match", "")):
            del headers["Content-Type"]
            headers.pop("Link", None)
            return Encoded(304, headers)
    return Encoded(answer.status, headers, body)


async def hang(request: web.Request) -> None:
    """Return once the client has gone away; the server's stop cancels it."""
    # aiohttp has no event for a lost connection short of cancelling every handler.
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(_HANG_POLL)


def reset(request: web.Request) -> None:
    """Reset the connection, so that the client's read fails with an error and not with an end of file."""
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


async def truncate(request: web.Request, encoded: Encoded) -> web.StreamResponse:
    """Send the headers and half of the announced body, then close the connection."""
    response = web.StreamResponse(status=encoded.status, headers=encoded.headers)
    response.content_length = len(encoded.body)
    await response.prepare(request)
    await response.write(encoded.body[: len(encoded.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _tags(header: str) -> set[str]:
    """The tags of an If-None-Match header for weak comparison."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}
