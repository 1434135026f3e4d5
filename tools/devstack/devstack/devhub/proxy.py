"""How the hub passes a request on (hub-contract.md §3.1), for providers, kcp and the GraphQL gateway alike.

Bodies are streamed both ways, so watches and server-sent events pass. Web sockets do not.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from urllib.parse import quote, unquote

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
# What aiohttp would add to a request by itself. Go's proxy adds nothing that the provider could see.
NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
UPSTREAM_ERROR = "provider upstream error"

# Go's url.URL leaves these alone in a path, besides letters and digits.
_PATH_SAFE = "/$&+,:;=@-_.~"


def open_proxy_session() -> aiohttp.ClientSession:
    """No timeout, no decoding and no cookies of its own: what comes through is the business of the two ends."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


class Proxy:
    """Sends requests on and streams the answers back."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def forward(
        self,
        request: web.Request,
        target: URL,
        *,
        set_headers: Mapping[str, str] | None = None,
        drop_headers: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
    ) -> web.StreamResponse:
        """The answer of `target`, sent. Raises `web.HTTPBadGateway` if `target` cannot be reached or does not answer."""
        headers = outgoing_headers(request, set_headers or {}, drop_headers)
        sending = self._session.request(
            request.method,
            target,
            headers=headers,
            data=request.content if request.body_exists else None,
            allow_redirects=False,
            skip_auto_headers=NOT_ADDED,
            ssl=tls or True,
        )
        try:
            upstream = await sending
        except (aiohttp.ClientError, TimeoutError):
            raise web.HTTPBadGateway(text=UPSTREAM_ERROR) from None
        async with upstream:
            return await _send_back(request, upstream)


def outgoing_headers(
    request: web.Request, set_headers: Mapping[str, str], drop_headers: frozenset[str]
) -> CIMultiDict[str]:
    """The headers for the provider.

    Those that the client's ``Connection`` header names go last. So a client can take an identity header away from its own
    request, and cannot forge one.
    """
    dropped = drop_headers | {"host"}
    headers = CIMultiDict((key, value) for key, value in request.headers.items() if key.lower() not in dropped)
    headers.update(set_headers)
    named = {name.strip().lower() for value in headers.getall("Connection", ()) for name in value.split(",")}
    for name in [key for key in headers if key.lower() in HOP_BY_HOP | named]:
        headers.popall(name, None)
    forwarded = [*headers.popall("X-Forwarded-For", ()), request.remote or ""]
    headers["X-Forwarded-For"] = ", ".join(filter(None, forwarded))
    return headers


async def _send_back(request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    kept = ((key, value) for key, value in upstream.headers.items() if key.lower() not in HOP_BY_HOP)
    response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=CIMultiDict(kept))
    await response.prepare(request)
    try:
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
    except aiohttp.ClientPayloadError:
        # The provider broke off. A proper end would tell the client that the answer is whole.
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


def decoded_path(request: web.Request) -> str:
    """The path with every escape decoded, ``%2F`` too, as Go's ``URL.Path`` has it."""
    return unquote(request.raw_path.partition("?")[0], errors="surrogateescape")


def escaped_path(path: str) -> str:
    """The reverse, as Go writes it into a request line."""
    return quote(path, safe=_PATH_SAFE, errors="surrogateescape")


def raw_query(request: web.Request) -> str:
    """The query as it came, with its question mark; empty without one."""
    _, mark, query = request.raw_path.partition("?")
    return mark + query


def below(base: str, path: str, request: web.Request) -> URL:
    """The URL of `path` (decoded) below `base`, with the request's query."""
    return URL(base.rstrip("/") + escaped_path(path) + raw_query(request), encoded=True)


def clean_path(path: str) -> str:
    """The path without empty segments and dots, as the hub's router wants it; any other it redirects."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            kept[-1:] = []
        elif segment not in ("", "."):
            kept.append(segment)
    trailing = "/" if kept and path.endswith("/") else ""
    return "/" + "/".join(kept) + trailing
