"""How often one caller may ask, so that an agent in a loop leaves room for others.

A caller is a cluster and a token, and without a token an address. Nobody has verified them yet, so whoever invents new ones is a
new caller each time: this keeps order among those who mean well. What the hostile can take is bounded in ``bounded.py``.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Final

from limits import RateLimitItem
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.identity import bearer_token
from gateway.metrics import REFUSED

MOST_CALLERS: Final = 10_000
"""Who has not asked for the longest time is forgotten, and begins anew. An entry takes some 300 bytes."""


def caller_key(scope: Scope) -> str:
    """Who sends this request, as a text of fixed length that holds no secret."""
    request = HTTPConnection(scope)
    headers = request.headers
    # The token alone: the blanks and the capitals in front of it would make one caller many.
    if token := bearer_token(request):
        who = ("token", headers.get("x-kedge-cluster", ""), token)
    else:
        # The hub appends the address that it sees.
        forwarded = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        who = ("address", forwarded or str((scope.get("client") or ("",))[0]))
    return hashlib.sha256("\0".join(who).encode()).hexdigest()


class CallerLimits:
    """Counts the requests of each caller in this process."""

    def __init__(
        self, rate: RateLimitItem, *, most_callers: int = MOST_CALLERS, now: Callable[[], float] = time.time
    ) -> None:
        """``now``: the time in seconds."""
        self._rate = rate
        self._now = now
        self._limiter = FixedWindowRateLimiter(_Counters(most_callers, now))

    def retry_after(self, caller: str) -> float | None:
        """Count a request of ``caller``. None: it is admitted. Otherwise the seconds until one will be."""
        if self._limiter.hit(self._rate, caller):
            return None
        return max(0.0, self._limiter.get_window_stats(self._rate, caller).reset_time - self._now())


class PerCaller:
    """Answers 429 on ``routes``, except on the paths in ``without``."""

    def __init__(
        self, app: ASGIApp, limits: CallerLimits, routes: Sequence[BaseRoute], without: Collection[str]
    ) -> None:
        self._app = app
        self._limits = limits
        self._routes = routes
        self._without = without

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self._app
        if scope["type"] == "http" and self._counts(scope):
            seconds = self._limits.retry_after(caller_key(scope))
            if seconds is not None:
                REFUSED.labels("rate").inc()
                answer = JSONResponse(
                    {"detail": "Too many requests. Wait as long as Retry-After says."},
                    429,
                    headers={"Retry-After": str(math.ceil(seconds))},
                )
        await answer(scope, receive, send)

    def _counts(self, scope: Scope) -> bool:
        if scope["path"] in self._without:
            return False
        return any(route.matches(scope)[0] != Match.NONE for route in self._routes)


class _Counters(Storage):
    """Counters with a bound. The library's own storage has none, and walks through all its entries again and again."""

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        super().__init__()
        self._most = most
        self._now = now
        # By key, in the order of their use: a count, and when it ends.
        self._counters: OrderedDict[str, tuple[int, float]] = OrderedDict()

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        count, end = self._counters.get(key, (0, 0.0))
        now = self._now()
        # A clock that was set back must not shut anybody out.
        if not now < end <= now + expiry:
            count, end = 0, now + expiry
        self._counters[key] = count + amount, end
        self._counters.move_to_end(key)
        if len(self._counters) > self._most:
            self._counters.popitem(last=False)
        return count + amount

    def get(self, key: str) -> int:
        count, end = self._counters.get(key, (0, 0.0))
        return count if self._now() < end else 0

    def get_expiry(self, key: str) -> float:
        return self._counters.get(key, (0, self._now()))[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        count = len(self._counters)
        self._counters.clear()
        return count

    def clear(self, key: str) -> None:
        self._counters.pop(key, None)
