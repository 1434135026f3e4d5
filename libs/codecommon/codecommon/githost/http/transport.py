"""The one way out to git hosts: a stack of httpx transports that all backends of a process share.

From the outside in: the ``layers`` that the process adds (a breaker, a budget gate, a conditional cache), then observation, then
the network. A backend borrows the stack. Its ``Sender`` travels in the extensions of each request.
"""

from __future__ import annotations

import hashlib
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import httpx

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.address import HostAddress
from codecommon.githost.http.network import Network
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.sender import Sender, attach
from codecommon.githost.http.trace import Traced

Layer = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]
Turns = Callable[[Sender], Awaitable[None]]

# github.com ends a request after 10 s. A handler must not hang on a host that sends a byte now and then.
_DEADLINE_SECONDS: Final = 20.0
# Tenants choose their caBundle, so the number of contexts is bounded.
_MOST_BUNDLES: Final = 64


class HostTransport:
    """The process's transport stack. Build one, and close it at the end.

    ``layers`` are applied in order, the first one outermost. ``turns``: what ``Borrowed.await_turn`` asks. ``proxies`` None: no
    proxy. ``deadline``: seconds for one request, from the wait for a connection to the answer's end.
    """

    def __init__(
        self,
        *,
        layers: Sequence[Layer] = (),
        turns: Turns | None = None,
        proxies: ProxyRules | None = None,
        deadline: float = _DEADLINE_SECONDS,
    ) -> None:
        self._tls = _TlsContexts()
        self._turns = turns
        network = Network(proxies or ProxyRules(), deadline)
        stack: httpx.AsyncBaseTransport = Traced(network)
        for layer in reversed(layers):
            stack = layer(stack)
        self._stack = stack

    def borrow(
        self,
        address: HostAddress,
        credential_key: tuple[str, str, str],
        ca_bundle: str | None,
        issuer: str | None = None,
    ) -> Borrowed:
        """A transport for one backend; closing it closes nothing. ``issuer``: as of ``Sender``.

        Raises ``Terminal`` (``CABundleInvalid``).
        """
        return Borrowed(
            self._stack, Sender(address, credential_key, self._tls.trusting(ca_bundle), issuer), self._turns
        )

    async def aclose(self) -> None:
        await self._stack.aclose()


class Borrowed(httpx.AsyncBaseTransport):
    """The shared stack, lent to one backend. An HTTP client that closes its transport does not close the stack."""

    def __init__(self, stack: httpx.AsyncBaseTransport, sender: Sender, turns: Turns | None) -> None:
        self._stack = stack
        self._sender = sender
        self._turns = turns

    async def await_turn(self) -> None:
        """``GitBackend.await_turn``, for this backend."""
        if self._turns is not None:
            await self._turns(self._sender)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        attach(request, self._sender)
        return await self._stack.handle_async_request(request)

    async def aclose(self) -> None:
        pass


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
            if len(self._bundles) > _MOST_BUNDLES:
                self._bundles.popitem(last=False)
        self._bundles.move_to_end(key)
        return self._bundles[key]


def _extended_context(ca_bundle: str) -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    # PEM is ASCII. Anything else stands in a comment or is a byte order mark, and ssl refuses it.
    pem = ca_bundle.encode("ascii", "ignore").decode()
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        raise Terminal(
            Reason.CA_BUNDLE_INVALID, "spec.caBundle holds no certificate in PEM form that can be read"
        ) from None
    return context
