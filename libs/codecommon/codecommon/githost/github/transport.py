"""The one way out to git hosts: a stack of httpx transports that all sessions of a process share.

From the outside in: the ``layers`` that the process adds (a budget gate, a conditional cache), then observation, then the
network. A session borrows the stack; what a layer must know of the session travels in the request's extensions.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

import httpx

from codecommon.errors import Terminal
from codecommon.githost.allow import HostEndpoint
from codecommon.githost.github.observe import Observed
from codecommon.githost.github.proxy import ProxyRules
from codecommon.githost.github.session import Session, attach, session_of

Layer = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]

TIMEOUT: Final = httpx.Timeout(15, connect=5)
# GitHub cuts a request after 10 s; a handler must not hang on a host that sends a byte now and then.
_DEADLINE_SECONDS: Final = 20.0
_LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=100, keepalive_expiry=30)
# A page of a hundred repositories is below 1 MiB; a longer answer is not one of GitHub's API.
_LONGEST_ANSWER: Final = 16 * 1024 * 1024
_REPEATABLE: Final = frozenset({"GET", "HEAD"})
# Tenants name hosts and authorities, so what is kept for each is bounded.
_MOST_POOLS: Final = 64


class AnswerTooLong(httpx.TransportError):
    """The host sent more than any answer of its API is long."""


class HostTransport:
    """The process's transport stack. Build one, and close it at the end.

    ``layers`` are applied in order, the first one outermost. ``proxies`` None: as the environment says, which raises ValueError
    for a proxy that cannot be used. ``deadline``: seconds for one request, from the wait for a connection to the answer's end.
    """

    def __init__(
        self,
        *,
        layers: Sequence[Layer] = (),
        proxies: ProxyRules | None = None,
        deadline: float = _DEADLINE_SECONDS,
    ) -> None:
        self._tls = _TlsContexts()
        network = _Network(ProxyRules.from_environment() if proxies is None else proxies, deadline)
        stack: httpx.AsyncBaseTransport = Observed(network)
        for layer in reversed(layers):
            stack = layer(stack)
        self._stack = stack

    def borrow(
        self, endpoint: HostEndpoint, principal: tuple[str, str, str], ca_bundle: str | None
    ) -> httpx.AsyncBaseTransport:
        """A transport for one session; closing it closes nothing.

        Raises ``Terminal`` (``CABundleInvalid``).
        """
        return _Borrowed(self._stack, Session(endpoint, principal, self._tls.trusting(ca_bundle)))

    async def aclose(self) -> None:
        await self._stack.aclose()


class _Borrowed(httpx.AsyncBaseTransport):
    """The shared stack in one session's hands.

    githubkit makes an httpx client for each call and closes it with its transport; that must not reach the stack.
    """

    def __init__(self, stack: httpx.AsyncBaseTransport, session: Session) -> None:
        self._stack = stack
        self._session = session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        attach(request, self._session)
        return await self._stack.handle_async_request(request)

    async def aclose(self) -> None:
        pass


@dataclass(slots=True)
class _Pool:
    transport: httpx.AsyncHTTPTransport
    in_flight: int = 0


class _Network(httpx.AsyncBaseTransport):
    """Connection pools, one per host and set of authorities; answers are read whole, in bounded time."""

    def __init__(self, proxies: ProxyRules, deadline: float) -> None:
        self._proxies = proxies
        self._deadline = deadline
        self._pools: OrderedDict[tuple[object, ...], _Pool] = OrderedDict()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async with self._pool(request) as pool:
            try:
                async with asyncio.timeout(self._deadline):
                    return await self._exchange(pool, request)
            except TimeoutError:
                raise httpx.ReadTimeout(f"no whole answer within {self._deadline} s", request=request) from None

    @staticmethod
    async def _exchange(pool: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        """One request; a read whose connection breaks, as an idle one does, is made once more on another."""
        try:
            return await _whole(await pool.handle_async_request(request))
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            if request.method not in _REPEATABLE:
                raise
        return await _whole(await pool.handle_async_request(request))

    @asynccontextmanager
    async def _pool(self, request: httpx.Request) -> AsyncIterator[httpx.AsyncHTTPTransport]:
        url, tls = request.url, session_of(request).tls
        key = (url.scheme, url.host, url.port, tls)
        pool = self._pools.get(key)
        if pool is None:
            proxy = self._proxies.proxy_for(url)
            transport = httpx.AsyncHTTPTransport(verify=tls, limits=_LIMITS, proxy=proxy, trust_env=False)
            pool = self._pools[key] = _Pool(transport)
        self._pools.move_to_end(key)
        pool.in_flight += 1
        try:
            await self._drop_idle_surplus()
            yield pool.transport
        finally:
            pool.in_flight -= 1

    async def _drop_idle_surplus(self) -> None:
        surplus = len(self._pools) - _MOST_POOLS
        if surplus <= 0:
            return
        idle = [key for key, pool in self._pools.items() if pool.in_flight == 0][:surplus]
        dropped = [self._pools.pop(key) for key in idle]
        for pool in dropped:
            await pool.transport.aclose()

    async def aclose(self) -> None:
        while self._pools:
            _, pool = self._pools.popitem()
            await pool.transport.aclose()


async def _whole(response: httpx.Response) -> httpx.Response:
    """The same response with its body in memory, still encoded as the host sent it."""
    body = bytearray()
    try:
        async for chunk in cast(httpx.AsyncByteStream, response.stream):
            body += chunk
            if len(body) > _LONGEST_ANSWER:
                raise AnswerTooLong(f"the answer is longer than {_LONGEST_ANSWER} bytes")
    finally:
        await response.aclose()
    return httpx.Response(
        response.status_code,
        headers=response.headers,
        stream=httpx.ByteStream(bytes(body)),
        extensions=response.extensions,
    )


class _TlsContexts:
    """One TLS context for all who trust the well-known authorities, and one per caBundle: each costs 20 ms and 0.7 MB."""

    def __init__(self) -> None:
        self._well_known: ssl.SSLContext | None = None
        self._bundles: OrderedDict[bytes, ssl.SSLContext] = OrderedDict()

    def trusting(self, ca_bundle: str | None) -> ssl.SSLContext:
        if not ca_bundle:
            # httpx's own: certifi's authorities, or those of SSL_CERT_FILE or SSL_CERT_DIR.
            self._well_known = self._well_known or httpx.create_ssl_context()
            return self._well_known
        key = hashlib.sha256(ca_bundle.encode()).digest()
        if key not in self._bundles:
            self._bundles[key] = _extended_context(ca_bundle)
            if len(self._bundles) > _MOST_POOLS:
                self._bundles.popitem(last=False)
        self._bundles.move_to_end(key)
        return self._bundles[key]


def _extended_context(ca_bundle: str) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    try:
        context.load_verify_locations(cadata=ca_bundle)
    except (ssl.SSLError, ValueError, TypeError):
        raise Terminal("CABundleInvalid", "spec.caBundle holds no certificate in PEM form that can be read") from None
    return context
