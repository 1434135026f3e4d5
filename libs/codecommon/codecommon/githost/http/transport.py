"""The one way out to git hosts: a stack of httpx transports that all backends of a process share.

From the outside in: the hosts' shares of the slots, the ``layers`` that the process adds (a breaker, a budget gate, a conditional
cache), then observation, then the network. A backend borrows the stack. Its ``Sender`` travels in the extensions of each request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import httpx

from codecommon.githost.address import HostAddress
from codecommon.githost.http.elsewhere import Elsewhere
from codecommon.githost.http.network import Network
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.sender import Sender, attach
from codecommon.githost.http.shares import HostShares
from codecommon.githost.http.trace import Traced
from codecommon.githost.http.trust import authorities_in

Layer = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]
Turns = Callable[[Sender], Awaitable[None]]

# github.com ends a request after 10 s. A handler must not hang on a host that sends a byte now and then.
_DEADLINE_SECONDS: Final = 20.0


class HostTransport:
    """The process's transport stack. Build one, and close it at the end.

    ``layers`` are applied in order, the first one outermost. ``turns``: what ``Borrowed.await_turn`` asks. ``proxies`` None: no
    proxy. ``deadline``: seconds for one request, from a free connection to the answer's end. ``shares`` None: every host may
    have all slots.
    """

    def __init__(
        self,
        *,
        layers: Sequence[Layer] = (),
        turns: Turns | None = None,
        proxies: ProxyRules | None = None,
        deadline: float = _DEADLINE_SECONDS,
        shares: HostShares | None = None,
    ) -> None:
        self._turns = turns
        network = Network(proxies or ProxyRules(), deadline, shares)
        self._elsewhere = Elsewhere(proxies or ProxyRules())
        stack: httpx.AsyncBaseTransport = Traced(network)
        for layer in reversed(layers):
            stack = layer(stack)
        # Outermost, because a wait in any layer takes a slot.
        self._stack = shares.layer(stack) if shares is not None else stack

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
        sender = Sender(address, credential_key, authorities_in(ca_bundle), issuer)
        return Borrowed(self._stack, sender, self._turns, self._elsewhere)

    async def aclose(self) -> None:
        await self._stack.aclose()
        await self._elsewhere.aclose()


class Borrowed(httpx.AsyncBaseTransport):
    """The shared stack, lent to one backend. An HTTP client that closes its transport does not close the stack."""

    def __init__(
        self, stack: httpx.AsyncBaseTransport, sender: Sender, turns: Turns | None, elsewhere: Elsewhere
    ) -> None:
        self._stack = stack
        self._sender = sender
        self._turns = turns
        self._elsewhere = elsewhere

    def download(self, location: httpx.URL | None) -> AbstractAsyncContextManager[AsyncIterator[bytes] | None]:
        """What a redirect of this backend's host leads to; as of ``Elsewhere.open``."""
        return self._elsewhere.open(self._sender, location)

    async def await_turn(self) -> None:
        """``GitBackend.await_turn``, for this backend."""
        if self._turns is not None:
            await self._turns(self._sender)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        attach(request, self._sender)
        return await self._stack.handle_async_request(request)

    async def aclose(self) -> None:
        pass
