"""A host that does not answer is asked now and then, by one request at a time, and everybody else is told at once.

Without it every slot of the process would wait for the deadline of a request again and again, and a host that comes back
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

from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable
from codecommon.githost.github.classify import is_certificate_error
from codecommon.githost.github.endpoint import HostEndpoint
from codecommon.githost.http.breaker import Admission, Breaker
from codecommon.githost.http.metrics import HOST_REFUSED, HOSTS_DOWN
from codecommon.githost.http.observe import host_label
from codecommon.githost.http.sender import sender_of

_log = logging.getLogger(__name__)

# Those who wait for the same probe must not come back at the same moment.
_SPREAD_SECONDS: Final = 5.0
# Tenants can name any subdomain of ghe.com, so what is remembered of hosts is bounded.
_MOST_HOSTS: Final = 1024


class Guarded(httpx.AsyncBaseTransport):
    """A breaker per host around the transport below.

    Failures are requests without a whole answer, 5xx, and pages where the API's JSON should be. Of a host that keeps failing
    every request ends in ``Retryable`` (``HostUnavailable``), its message the same in every outage and process; right after one,
    requests wait for each other. ``clock``: seconds, monotonic.
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
        host = self._host(sender_of(request).endpoint)
        admission = await self._admitted(host)
        try:
            response = await self._below.handle_async_request(request)
        except BaseException as error:
            # Whose certificate is trusted is the session's affair, and says of the host neither that it works nor that it fails.
            if not isinstance(error, httpx.TransportError) or is_certificate_error(error):
                host.breaker.abandoned(admission)
                host.wake()
                raise
            self._settle(host, admission, answered=False)
            if host.breaker.is_open:
                # In the words that all others get: a probe must not rewrite the status of the object that it was made for.
                raise self._refusal(host) from error
            raise
        self._settle(host, admission, answered=_is_answer(response))
        if host.breaker.is_open:
            raise self._refusal(host)
        return response

    async def _admitted(self, host: _Host) -> Admission:
        while host.breaker.is_full:
            await host.changed.wait()
        admission = host.breaker.admit()
        if admission == "refused":
            HOST_REFUSED.labels(host_label(host.endpoint)).inc()
            raise self._refusal(host)
        return admission

    def _settle(self, host: _Host, admission: Admission, *, answered: bool) -> None:
        was_open = host.breaker.is_open
        if answered:
            host.breaker.answered()
        else:
            host.breaker.failed(admission)
        if host.breaker.is_open != was_open:
            self._publish(host.endpoint)
            if was_open:
                _log.info("%s answers again", host.endpoint.host)
            else:
                _log.warning("%s does not answer as it should; it is asked by one probe at a time", host.endpoint.host)
        host.wake()

    def _host(self, endpoint: HostEndpoint) -> _Host:
        host = self._hosts.get(endpoint.api_base)
        if host is None:
            host = self._hosts[endpoint.api_base] = _Host(endpoint, Breaker(self._clock))
            if len(self._hosts) > _MOST_HOSTS:
                _, forgotten = self._hosts.popitem(last=False)
                self._publish(forgotten.endpoint)
        self._hosts.move_to_end(endpoint.api_base)
        return host

    def _refusal(self, host: _Host) -> Retryable:
        # Without a time: each process has its own, and so has each outage of a host that answers now and then.
        return Retryable(
            Reason.HOST_UNAVAILABLE,
            f"{host.endpoint.host} does not answer as it should; it is asked every few seconds, and work goes on once it answers",
            after=timedelta(seconds=host.breaker.next_probe_in + self._rng.uniform(0.0, _SPREAD_SECONDS)),
        )

    def _publish(self, endpoint: HostEndpoint) -> None:
        label = host_label(endpoint)
        down = sum(host.breaker.is_open for host in self._hosts.values() if host_label(host.endpoint) == label)
        HOSTS_DOWN.labels(label).set(down)

    async def aclose(self) -> None:
        await self._below.aclose()


class _Host:
    def __init__(self, endpoint: HostEndpoint, breaker: Breaker) -> None:
        self.endpoint = endpoint
        self.breaker = breaker
        self.changed = asyncio.Event()

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self.changed.set()
        self.changed = asyncio.Event()


def _is_answer(response: httpx.Response) -> bool:
    return response.status_code < 500 and not response.headers.get("content-type", "").startswith("text/html")
