"""The bottom of the transport stack: one request over the network, answered whole and in bounded time.

The interface is httpx's, and aiohttp does the work. httpx's own pool looks at every connection for every request, which at a
hundred connections costs more than the requests themselves. A connection that was kept for too long breaks when it is used.
aiohttp then sends the request once more on another connection if HTTP calls its method idempotent; a POST or PATCH is sent once.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import Final
from weakref import WeakValueDictionary

import aiohttp
import httpx
from yarl import URL

from codecommon.githost.address import HostAddress
from codecommon.githost.http.metrics import HOST_BUSY
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.sender import sender_of
from codecommon.githost.http.sessions import Sessions
from codecommon.githost.http.shares import HostShares
from codecommon.githost.protocol import HostBusy

# Requests at once, whatever certificates they trust. A process works on fewer objects than that.
_MOST_PER_HOST: Final = 100
_MOST: Final = 256
# Who waits for a free connection holds a slot of the process, so the wait is short and the object comes back.
_LONGEST_WAIT_SECONDS: Final = 1.0
_COME_BACK_SECONDS: Final = 5.0
# What the host packs with is what is unpacked here, so that the unpacked bytes can be counted.
_CODING: Final = "gzip"
# Of an answer that is packed a thousandfold, no more than this is unpacked at a time.
_STEP: Final = 64 * 1024

LONGEST_ANSWER: Final = 2 * 1024 * 1024
"""Bytes of an answer, unpacked. A page of a hundred repositories is below 1 MiB."""

ANSWER_LIMIT: Final = "codecommon.answer_limit"
"""Extension of a request: its own number instead of ``LONGEST_ANSWER``. A longer answer is then cut and no failure of the host.

It is for what tenants make as long as they like: files, trees, messages of commits.
"""

CUT: Final = "codecommon.cut"
"""Extension of a response that was cut. Its body is not to be read."""


class AnswerTooLong(httpx.TransportError):
    """The host sent more than an answer of its API can have.

    It is a failure of the host, as a page of a proxy is, and becomes ``HostUnavailable``: no user can mend it, and it passes with
    what is in the way. So it must not stall an object.
    """


class Network(httpx.AsyncBaseTransport):
    """``deadline``: seconds for a request and its whole answer, from the moment when there is a free connection.

    A request that gets none within a second raises ``HostBusy``: it was not sent, and that says nothing about the host.
    ``shares``: what watches how long the requests take.
    """

    def __init__(self, proxies: ProxyRules, deadline: float, shares: HostShares | None = None) -> None:
        self._proxies = proxies
        self._deadline = deadline
        self._shares = shares
        self._sessions = Sessions()
        self._places = asyncio.Semaphore(_MOST)
        # A host's entry lives as long as somebody holds it.
        self._places_of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        sender = sender_of(request)
        host_places = self._places_of.setdefault(request.url.netloc.decode(), asyncio.Semaphore(_MOST_PER_HOST))
        async with (
            _places(sender.address, host_places, self._places),
            self._sessions.session(sender.authorities) as session,
            _places(sender.address, *session.places),
            self._shares.request_to(sender.address) if self._shares is not None else nullcontext(),
        ):
            try:
                async with asyncio.timeout(self._deadline):
                    response = await self._answer(session.client, request)
            except TimeoutError:
                raise httpx.ReadTimeout(f"no whole answer within {self._deadline} s", request=request) from None
            session.proven = session.proven or response.is_success
            return response

    async def _answer(self, session: aiohttp.ClientSession, request: httpx.Request) -> httpx.Response:
        try:
            async with session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=_asking_for(request.headers),
                data=_in_pieces(request.content),
                allow_redirects=False,
                proxy=self._proxies.proxy_for(request.url),
            ) as response:
                body, is_cut = await _whole(response, request.extensions.get(ANSWER_LIMIT))
                return httpx.Response(
                    response.status,
                    headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers],
                    stream=httpx.ByteStream(body),
                    extensions={CUT: True} if is_cut else {},
                )
        except aiohttp.ClientError as error:
            raise _as_httpx(error) from _cause(error)

    async def aclose(self) -> None:
        await self._sessions.aclose()


@asynccontextmanager
async def _places(address: HostAddress, *places: asyncio.Semaphore) -> AsyncIterator[None]:
    """One of each of ``places`` while the body runs. Raises ``HostBusy``."""
    async with AsyncExitStack() as held:
        try:
            async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
                for place in places:
                    await held.enter_async_context(place)
        except TimeoutError:
            HOST_BUSY.labels(address.label, "connection").inc()
            raise HostBusy(address.host, _COME_BACK_SECONDS) from None
        yield


def _asking_for(headers: httpx.Headers) -> list[tuple[str, str]]:
    """``headers``, which ask for no other coding than ours."""
    wanted = headers.copy()
    wanted["Accept-Encoding"] = _CODING
    return wanted.multi_items()


def _in_pieces(content: bytes) -> bytes | io.BytesIO | None:
    """The body of a request. A long one is not written at once, which would hold up the event loop."""
    return io.BytesIO(content) if len(content) > _STEP else content or None


async def _whole(response: aiohttp.ClientResponse, limit: int | None) -> tuple[bytes, bool]:
    """The body, still encoded as the host sent it, and whether it was cut, which it is with a ``limit`` only.

    Whoever decodes it gets ``limit`` bytes at most, or ``LONGEST_ANSWER``.
    """
    most = LONGEST_ANSWER if limit is None else limit
    decoded = _Decoded(response.headers.get("content-encoding", ""), most)
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            decoded.count(chunk)
            body += chunk
            if len(body) > most:
                # Packed data can also be longer than what it stands for.
                raise _too_long(most)
    except AnswerTooLong:
        if limit is None:
            raise
        return b"", True
    return bytes(body), False


def _too_long(most: int) -> AnswerTooLong:
    return AnswerTooLong(f"the answer is longer than {most} bytes")


class _Decoded:
    """Counts what a body decodes to, without keeping it. Raises ``AnswerTooLong``, or ``RemoteProtocolError`` for another coding.

    Codings can be nested, each a thousandfold, so none is accepted but the one that was asked for.
    """

    def __init__(self, coding: str, most: int) -> None:
        if coding.strip().lower() not in ("", "identity", _CODING):
            raise httpx.RemoteProtocolError("the answer has a coding that was not asked for")
        self._unzip = zlib.decompressobj(zlib.MAX_WBITS | 16) if coding.strip().lower() == _CODING else None
        self._most = most
        self._length = 0

    def count(self, chunk: bytes) -> None:
        if self._unzip is None:
            self._add(len(chunk))
            return
        while chunk:
            try:
                self._add(len(self._unzip.decompress(chunk, _STEP)))
            except zlib.error:
                raise httpx.RemoteProtocolError("the answer cannot be unpacked") from None
            if self._unzip.unused_data:
                raise httpx.RemoteProtocolError("there is more behind the end of the answer")
            chunk = self._unzip.unconsumed_tail

    def _add(self, length: int) -> None:
        self._length += length
        if self._length > self._most:
            raise _too_long(self._most)


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
