"""The quota of an account as the host's answers tell it, and how much of it each kind of work may have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from codecommon.githost.work import Urgency

# What is left to those who are more urgent, and what one kind may spend within a window of the quota.
_LEFT_ALONE: Final[Mapping[Urgency, float]] = {"interactive": 0.0, "desired": 0.05, "drift": 0.2, "crawl": 0.3}
_SHARE: Final[Mapping[Urgency, float]] = {"drift": 0.25, "crawl": 0.125}


@dataclass(frozen=True, slots=True)
class Quota:
    """As in the newest answer; ``reset`` in epoch seconds."""

    limit: int
    remaining: int
    reset: float


def newest(one: Quota | None, other: Quota | None) -> Quota | None:
    """Which of two answers is the later one: within a window the quota only falls."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda quota: (quota.reset, -quota.remaining))


def quota_of(headers: Mapping[str, str]) -> Quota | None:
    """The quota in an answer's headers; None where the host has none."""
    values = [headers.get(f"x-ratelimit-{name}", "") for name in ("limit", "remaining", "reset")]
    if not all(value.isdecimal() and len(value) <= 11 for value in values):
        return None
    limit, remaining, reset = map(int, values)
    return Quota(limit, remaining, float(reset)) if limit else None


@dataclass(slots=True)
class Spending:
    """Requests per urgency within the window of the quota that ends at ``until``."""

    until: float = 0.0
    counts: dict[str, int] = field(default_factory=dict[str, int])

    def count(self, urgency: Urgency, quota: Quota | None, now: float) -> None:
        if quota is None:
            return
        if now >= self.until:
            self.until, self.counts = quota.reset, {}
        self.counts[urgency] = self.counts.get(urgency, 0) + 1

    def give_back(self, urgency: Urgency) -> None:
        """What was counted turned out to cost nothing."""
        if self.counts.get(urgency, 0) > 0:
            self.counts[urgency] -= 1


def quota_allows_at(urgency: Urgency, quota: Quota | None, spending: Spending, now: float) -> float:
    """When a request may be made: ``now``, or when the quota is renewed."""
    if quota is None or now >= quota.reset:
        return now
    spent = spending.counts.get(urgency, 0) if now < spending.until else 0
    share = _SHARE.get(urgency)
    if quota.remaining <= quota.limit * _LEFT_ALONE[urgency] or (share is not None and spent >= quota.limit * share):
        return quota.reset
    return now
