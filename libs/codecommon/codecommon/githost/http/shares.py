"""A host's share of the slots: hosts that answer late, or never, leave slots to the objects of other hosts.

An object holds a slot of the process while it waits for its host. A host whose answers come in time may have all slots. One
whose answers are late has a quarter of them, and all such hosts together have half. What is over that ends in ``HostBusy``
before anything is sent. Hosts that nothing is known of yet have a quarter together, for as long as it takes to find out.

A host may also turn late with many requests under way. So of those that are late only its share goes on, and the others are
given up.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Final

import httpx

from codecommon.githost.address import HostAddress
from codecommon.githost.http.metrics import HOST_BUSY
from codecommon.githost.http.sender import sender_of
from codecommon.githost.job import held_by_job
from codecommon.githost.protocol import HostBusy
from codecommon.process.line import Line

# Most requests take a fifth of it. When a host stops answering, others wait for its slots no longer than that.
_LATE_SECONDS: Final = 1.0
# By then a host that works has mostly answered, and is no longer unknown.
_FIRST_ANSWER_SECONDS: Final = 0.25
# After three late requests in a row a host is slow, and after a dozen answers in time it no longer is.
_SMOOTHING: Final = 0.1
_SLOW_FROM: Final = 0.25
# Tenants can invent names of hosts (any subdomain of ghe.com), so their number is bounded.
_MOST_HOSTS: Final = 1024


@dataclass(slots=True)
class _Host:
    """``lateness``: the part of its latest requests that were late, None where there were none yet.

    ``objects``: when those began that work with it now, in this order. ``late``: its requests under way that are late.
    ``line``: of those that come back.
    """

    address: HostAddress
    lateness: float | None = None
    objects: dict[object, float] = field(default_factory=dict[object, float])
    late: int = 0
    line: Line = field(default_factory=Line)

    @property
    def is_slow(self) -> bool:
        return self.lateness is not None and self.lateness >= _SLOW_FROM

    def learn(self, *, late: bool) -> None:
        before = float(late) if self.lateness is None else self.lateness
        self.lateness = before + _SMOOTHING * (late - before)


@dataclass(slots=True)
class _Asking:
    """One request under way."""

    late: bool = False
    given_up: bool = False


class HostShares:
    """Which part of ``slots`` each host may have now, learned from when it answers.

    A host is known by its address, whoever's Connection names it. ``late_after``: seconds after which a request is late, the
    time before it is sent not counted. ``clock``: seconds, monotonic.
    """

    def __init__(
        self, slots: int, *, late_after: float = _LATE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._share = max(1, slots // 4)
        self._together = max(1, slots // 2)
        # Also a host that answers well is late now and then. Others must not take that from it.
        self._always = max(1, slots // 16)
        self._late_after = late_after
        self._clock = clock
        # Hosts that nothing is known of have their slots together, so their objects wait in one line.
        self._unknown = Line()
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    def layer(self, below: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """The shares above ``below``, as a layer of ``HostTransport``."""
        return _ShareLayer(self, below)

    @contextmanager
    def object_at(self, address: HostAddress) -> Iterator[None]:
        """Count an object that works with the host while the body runs. Raises ``HostBusy`` where there is no slot for it."""
        host = self._host(address)
        if not self._has_room(host):
            raise self._busy(host, "share")
        this = object()
        host.objects[this] = self._clock()
        try:
            yield
        finally:
            host.line.took(self._clock() - host.objects.pop(this))

    @asynccontextmanager
    async def request_to(self, address: HostAddress) -> AsyncIterator[None]:
        """Watch a request to the host while the body carries it out.

        Raises ``HostBusy`` when it is late and given up. It is unknown then whether it took effect.
        """
        host, asking, limit = self._host(address), _Asking(), asyncio.timeout(None)
        try:
            async with limit:
                timer = asyncio.get_running_loop().call_later(self._late_after, self._is_late, host, asking, limit)
                try:
                    yield
                finally:
                    timer.cancel()
                    if asking.late and not asking.given_up:
                        host.late -= 1
        except TimeoutError:
            if limit.expired():
                raise self._busy(host, "late") from None
            raise
        except httpx.TransportError:
            # No answer, but also nobody who waits for it.
            self._in_time(host, asking)
            raise
        self._in_time(host, asking)

    def _has_room(self, host: _Host) -> bool:
        if host.lateness is None:
            return sum(len(other.objects) for other in self._hosts.values() if other.lateness is None) < self._share
        if not host.is_slow:
            return True
        together = sum(len(other.objects) for other in self._hosts.values() if other.is_slow)
        return len(host.objects) < self._share and together < self._together

    def _is_late(self, host: _Host, asking: _Asking, limit: asyncio.Timeout) -> None:
        asking.late = True
        host.late += 1
        host.learn(late=True)
        together = sum(other.late for other in self._hosts.values())
        if host.late > self._share or (together > self._together and host.late > self._always):
            asking.given_up = True
            host.late -= 1
            limit.reschedule(asyncio.get_running_loop().time())

    def _in_time(self, host: _Host, asking: _Asking) -> None:
        if not asking.late:
            host.learn(late=False)

    def _busy(self, host: _Host, why: str) -> HostBusy:
        HOST_BUSY.labels(host.address.label, why).inc()
        now = self._clock()
        if host.lateness is None:
            return HostBusy(host.address.host, self._unknown.wait(now, self._share, at_least=_FIRST_ANSWER_SECONDS))
        # Of a host that does not answer, no object has ended that would show how long they take.
        oldest = now - next(iter(host.objects.values()), now)
        return HostBusy(host.address.host, host.line.wait(now, self._share, at_least=max(oldest, self._late_after)))

    def _host(self, address: HostAddress) -> _Host:
        host = self._hosts.get(address.api_base)
        if host is None:
            if len(self._hosts) >= _MOST_HOSTS:
                self._forget_one()
            host = self._hosts[address.api_base] = _Host(address)
        self._hosts.move_to_end(address.api_base)
        return host

    def _forget_one(self) -> None:
        """Forget the host that nobody has asked for the longest time. One that is asked now counts, so it stays."""
        idle = (key for key, host in self._hosts.items() if not host.objects and not host.late)
        if (oldest := next(idle, None)) is not None:
            del self._hosts[oldest]


class _ShareLayer(httpx.AsyncBaseTransport):
    def __init__(self, shares: HostShares, below: httpx.AsyncBaseTransport) -> None:
        self._shares = shares
        self._below = below

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        address = sender_of(request).address
        # An object that has begun goes on. Otherwise slow hosts would let many begin and none end.
        with held_by_job(f"slot at {address.api_base}", lambda: self._shares.object_at(address)):
            return await self._below.handle_async_request(request)

    async def aclose(self) -> None:
        await self._below.aclose()
