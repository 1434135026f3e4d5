"""The bottom of the transport stack: one request over the network, answered whole and in bounded time.

The interface is httpx's, and aiohttp does the work. httpx's own pool looks at every connection for every request, which at a
hundred connections costs more than the requests themselves. A connection that was kept for too long breaks when it is used.
aiohttp then sends the request once more on another connection if HTTP calls its method idempotent; a POST or PATCH is sent once.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

import aiohttp
import httpx
from yarl import URL

from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.sender import sender_of

_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=15)
_MOST_CONNECTIONS_PER_HOST: Final = 100
_KEEP_ALIVE_SECONDS: Final = 30
# A page of a hundred repositories is below 1 MiB. A longer answer is not one of a git host's API.
_LONGEST_ANSWER: Final = 16 * 1024 * 1024


class AnswerTooLong(httpx.TransportError):
    """The host sent more than any answer of its API is long."""


class Network(httpx.AsyncBaseTransport):
    """``deadline``: seconds for a request and its whole answer, waiting for a free connection included."""

    def __init__(self, proxies: ProxyRules, deadline: float) -> None:
        self._proxies = proxies
        self._deadline = deadline
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            async with asyncio.timeout(self._deadline):
                return await self._exchange(request)
        except TimeoutError:
            raise httpx.ReadTimeout(f"no whole answer within {self._deadline} s", request=request) from None

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        try:
            async with self._open_session().request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=request.content or None,
                allow_redirects=False,
                ssl=sender_of(request).tls,
                proxy=self._proxies.proxy_for(request.url),
            ) as response:
                return httpx.Response(
                    response.status,
                    headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers],
                    stream=httpx.ByteStream(await _whole(response)),
                )
        except aiohttp.ClientError as error:
            raise _as_httpx(error) from _cause(error)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, limit_per_host=_MOST_CONNECTIONS_PER_HOST, keepalive_timeout=_KEEP_ALIVE_SECONDS
                ),
                timeout=_TIMEOUT,
                # All tenants share the session: what a host sets for one must not reach it from another.
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The body, still encoded as the host sent it."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _LONGEST_ANSWER:
            raise AnswerTooLong(f"the answer is longer than {_LONGEST_ANSWER} bytes")
    return bytes(body)


def _as_httpx(error: aiohttp.ClientError) -> httpx.TransportError:
    """The same failure as httpx names it. The text is dropped, because it may hold an address."""
    name = type(error).__name__
    match error:
        case aiohttp.ServerTimeoutError():
            return (
                httpx.ConnectTimeout(name)
                if isinstance(error, aiohttp.ConnectionTimeoutError)
                else httpx.ReadTimeout(name)
            )
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return httpx.ProxyError(name)
        case aiohttp.ClientConnectorError() | aiohttp.ClientConnectorCertificateError():
            return httpx.ConnectError(name)
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError():
            return httpx.ReadError(name)
        case _:
            return httpx.RemoteProtocolError(name)


def is_certificate_error(error: BaseException) -> bool:
    """Whether the cause of ``error`` is a certificate that was not accepted."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _cause(error: aiohttp.ClientError) -> BaseException:
    """The TLS error behind a refused certificate; otherwise ``error`` itself."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError) and isinstance(error.certificate_error, ssl.SSLError):
        return error.certificate_error
    return error
