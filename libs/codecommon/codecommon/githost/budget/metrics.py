"""The budget's metrics, by host and urgency. There is no label for the account, because it would name tenants."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

from codecommon.githost.job import Urgency
from codecommon.githost.limits import Quota

REQUESTS: Final = Counter(
    "code_host_budget_requests", "Requests that the budget let pass, by urgency.", ("host", "urgency")
)
POINTS: Final = Counter("code_host_budget_points", "What these requests cost in GitHub's points.", ("host", "urgency"))
WAITS: Final = Counter(
    "code_host_budget_waits", "Requests that had to wait: asleep in the handler, or sent back.", ("host", "urgency")
)
WAIT_SECONDS: Final = Counter(
    "code_host_budget_wait_seconds", "Time that requests were told to wait.", ("host", "urgency")
)
RESERVED: Final = Gauge(
    "code_host_budget_reserved", "Objects that have a time reserved, summed over the accounts seen.", ("host",)
)
REMAINING: Final = Gauge(
    "code_host_quota_remaining",
    "Requests left until the quota is renewed, of the account that has the fewest.",
    ("host",),
)


class HostMetrics:
    """The metrics of one host."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._remaining: dict[str, Quota] = {}

    def passed(self, urgency: Urgency, points: int) -> None:
        REQUESTS.labels(self._host, urgency).inc()
        POINTS.labels(self._host, urgency).inc(points)

    def waited(self, urgency: Urgency, seconds: float, *, again: bool) -> None:
        """``again``: the same request has waited before."""
        if not again:
            WAITS.labels(self._host, urgency).inc()
        WAIT_SECONDS.labels(self._host, urgency).inc(max(seconds, 0.0))

    def reserved(self, before: int, now: int) -> None:
        if now != before:
            RESERVED.labels(self._host).inc(now - before)

    def quota(self, account: str, quota: Quota, now: float) -> None:
        self._remaining[account] = quota
        if len(self._remaining) > 1:
            self._remaining = {key: known for key, known in self._remaining.items() if known.reset > now}
        REMAINING.labels(self._host).set(min((q.remaining for q in self._remaining.values()), default=quota.remaining))
