"""A host that does not answer is probed now and then by one request. All other requests fail at once.

Without this layer every slot of the process would wait for the deadline of a request again and again, and a host that comes back
would meet all of them together.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import httpx

from codecommon.githost.address import HostAddress
from codecommon.githost.http.breaker import Admission, Breaker
from codecommon.githost.http.metrics import HOST_BUSY, HOST_REFUSED, HOSTS_DOWN
from codecommon.githost.http.network import is_certificate_error
from codecommon.githost.http.sender import sender_of
from codecommon.githost.protocol import HostBusy, HostUnavailable

_log = logging.getLogger(__name__)

# Those who wait for the same probe must not come back at the same moment.
_SPREAD_SECONDS: Final = 5.0
# Who waits holds a slot of the process.
_LONGEST_WAIT_SECONDS: Final = 1.0
# Tenants can invent names of hosts (any subdomain of ghe.com), so their number is bounded.
_MOST_HOSTS: Final = 1024


class BreakerLayer(httpx.AsyncBaseTransport):
    """A breaker per host around the transport below.

    A failure is a request without a whole answer, or with one that is not the API's (``HostApi.is_answer``). While a host keeps
    failing, every request raises ``HostUnavailable``, with the same message in every outage and process. Right after an outage,
    requests wait for each other, a second at most; then they raise ``HostBusy``. ``clock``: seconds, monotonic.
    """

    def __init__(
        self,
        below: httpx.AsyncBaseTransport,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._below = below
        self._clock = clock
        self._rng = rng or random.Random()
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = self._host(sender_of(request).address)
        admission = await self._admitted(host)
        try:
            response = await self._below.handle_async_request(request)
        except BaseException as error:
            # Which certificates a backend trusts is its own affair. It does not show that the host works, or that it fails.
            if not isinstance(error, httpx.TransportError) or is_certificate_error(error):
                host.breaker.abandoned(admission)
                host.wake()
                raise
            self._record(host, admission, answered=False)
            if host.breaker.is_open:
                # The same message for everybody: a probe must not rewrite the status of the object that it was sent for.
                raise self._refusal(host) from error
            raise
        self._record(host, admission, answered=host.address.api.is_answer(response))
        if host.breaker.is_open:
            raise self._refusal(host)
        return response

    async def _admitted(self, host: _Host) -> Admission:
        try:
            async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
                while host.breaker.is_full:
                    await host.changed.wait()
        except TimeoutError:
            HOST_BUSY.labels(host.address.label, "recovering").inc()
            raise HostBusy(host.address.host, self._rng.uniform(_LONGEST_WAIT_SECONDS, _SPREAD_SECONDS)) from None
        admission = host.breaker.admit()
        if admission == "refused":
            HOST_REFUSED.labels(host.address.label).inc()
            raise self._refusal(host)
        return admission

    def _record(self, host: _Host, admission: Admission, *, answered: bool) -> None:
        was_open = host.breaker.is_open
        if answered:
            host.breaker.answered()
        else:
            host.breaker.failed(admission)
        if host.breaker.is_open != was_open:
            self._publish(host.address)
            if was_open:
                _log.info("%s answers again", host.address.host)
            else:
                _log.warning("%s does not answer as it should; it is asked by one probe at a time", host.address.host)
        host.wake()

    def _host(self, address: HostAddress) -> _Host:
        host = self._hosts.get(address.api_base)
        if host is None:
            host = self._hosts[address.api_base] = _Host(address, Breaker(self._clock))
            if len(self._hosts) > _MOST_HOSTS:
                _, forgotten = self._hosts.popitem(last=False)
                self._publish(forgotten.address)
        self._hosts.move_to_end(address.api_base)
        return host

    def _refusal(self, host: _Host) -> HostUnavailable:
        # The message names no time, because each process would name another one, and each outage too.
        return HostUnavailable(
            f"{host.address.host} does not answer as it should; it is asked every few seconds, and work goes on once it answers",
            after=timedelta(seconds=host.breaker.next_probe_in + self._rng.uniform(0.0, _SPREAD_SECONDS)),
        )

    def _publish(self, address: HostAddress) -> None:
        down = sum(host.breaker.is_open for host in self._hosts.values() if host.address.label == address.label)
        HOSTS_DOWN.labels(address.label).set(down)

    async def aclose(self) -> None:
        await self._below.aclose()


class _Host:
    def __init__(self, address: HostAddress, breaker: Breaker) -> None:
        self.address = address
        self.breaker = breaker
        self.changed = asyncio.Event()

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self.changed.set()
        self.changed = asyncio.Event()
