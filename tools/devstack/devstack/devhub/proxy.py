"""The hub's reverse proxies: to kcp below ``/clusters/``, to providers below ``/services/providers/`` and ``/ui/providers/``.

Bodies are streamed both ways, so watches and server-sent events pass. Web sockets do not.
"""

from __future__ import annotations

import base64
import binascii
import json
import ssl
from collections.abc import Mapping

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
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


def open_proxy_session() -> aiohttp.ClientSession:
    """No timeout and no decoding: what comes through is the business of the two ends."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=30),
        auto_decompress=False,
    )


async def forward(
    session: aiohttp.ClientSession,
    request: web.Request,
    target: URL,
    *,
    set_headers: Mapping[str, str] | None = None,
    drop_headers: frozenset[str] = frozenset(),
    tls: ssl.SSLContext | None = None,
) -> web.StreamResponse:
    """Sends the request on to `target` and streams the answer back; raises `aiohttp.ClientError` if it cannot connect."""
    dropped = HOP_BY_HOP | drop_headers | {"host"}
    headers = CIMultiDict((key, value) for key, value in request.headers.items() if key.lower() not in dropped)
    headers.update(set_headers or {})
    async with session.request(
        request.method,
        target,
        headers=headers,
        data=request.content if request.body_exists else None,
        allow_redirects=False,
        ssl=tls or True,
    ) as upstream:
        kept = ((key, value) for key, value in upstream.headers.items() if key.lower() not in HOP_BY_HOP)
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=CIMultiDict(kept))
        await response.prepare(request)
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


def bearer(request: web.Request) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" and token else None


def service_account_cluster(token: str) -> str | None:
    """The logical cluster that a kcp ServiceAccount token says it belongs to; None for any other token.

    The signature is left to kcp, as the hub leaves it.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return claims.get("kubernetes.io/serviceaccount/clusterName") or claims["kubernetes.io"]["clusterName"]
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError):
        return None


def kcp_path(path: str, token: str | None) -> str:
    """The path at kcp for a request at the hub's `path`, or an HTTP error (hub-contract.md §4.5).

    A ServiceAccount is held to its own cluster: its prefix may be given or left out, any other one ends up below its
    own and fails there. Everybody else names a cluster by ID; kcp's own authorisation decides about the rest.
    """
    own = service_account_cluster(token) if token else None
    if own is not None:
        prefix = f"/clusters/{own}"
        rest = path.removeprefix(prefix) if path == prefix or path.startswith(f"{prefix}/") else path
        return prefix + rest
    if not path.startswith("/clusters/"):
        raise web.HTTPBadRequest(text="no workspace selected")
    cluster = path.split("/")[2]
    if cluster.startswith("root"):
        raise web.HTTPForbidden(text="address workspaces by cluster ID")
    return path
