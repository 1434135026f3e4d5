"""GitHub's two kinds of rate limit, counted per principal (a user, or an address without credential)."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from devstack.githubsim.switches import Switches

Principal = int | str
"""A user's id, or the client's address for an anonymous request."""

READ_POINTS, WRITE_POINTS = 1, 5
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
# Deleting is not listed among the content-creating requests.
_CREATING = frozenset({"POST", "PATCH", "PUT"})


@dataclass(slots=True)
class Window:
    """A principal's primary quota: `used` requests of the window that ends at `reset` (epoch seconds)."""

    reset: float
    used: int = 0


@dataclass(slots=True)
class RateFigures:
    """What the `X-RateLimit-*` headers and `/rate_limit` say."""

    limit: int
    used: int
    reset: int

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def as_json(self, resource: str) -> dict[str, Any]:
        return {
            "limit": self.limit,
            "used": self.used,
            "remaining": self.remaining,
            "reset": self.reset,
            "resource": resource,
        }


class PrimaryQuota:
    """A fixed window per principal, beginning with its first request."""

    def __init__(self) -> None:
        self._windows: dict[Principal, Window] = {}

    def figures(self, principal: Principal, limit: int, window_length: float, now: float) -> RateFigures:
        window = self._windows.get(principal)
        if window is None or now >= window.reset:
            window = self._windows[principal] = Window(reset=now + window_length)
        return RateFigures(limit, min(window.used, limit), math.ceil(window.reset))

    def charge(self, principal: Principal) -> None:
        """Count one request in the window that `figures` has opened."""
        self._windows[principal].used += 1

    def clear(self) -> None:
        self._windows.clear()


@dataclass(slots=True)
class _Activity:
    in_flight: int = 0
    blocked_until: float = 0.0
    points: deque[tuple[float, int]] = field(default_factory=deque[tuple[float, int]])
    writes: deque[float] = field(default_factory=deque[float])
    violations: Counter[str] = field(default_factory=Counter[str])


class SecondaryLimits:
    """Concurrency, points a minute, and content-creating requests a minute and an hour."""

    def __init__(self) -> None:
        self._activity: dict[Principal, _Activity] = {}

    def enter(self, principal: Principal, method: str, switches: Switches, now: float) -> int | None:
        """Count a request as begun. Returns the seconds to wait if it exceeds a limit; pair with `leave` anyway."""
        activity = self._activity.setdefault(principal, _Activity())
        activity.in_flight += 1
        if not switches.secondary_limits:
            return None
        if now < activity.blocked_until:
            activity.violations["blocked"] += 1
            return math.ceil(activity.blocked_until - now)
        if exceeded := self._exceeded(activity, method, switches, now):
            activity.violations.update(exceeded)
            activity.blocked_until = now + switches.secondary_retry_after
            return switches.secondary_retry_after
        return None

    def violations(self) -> dict[str, int]:
        """Refused requests since `clear_violations`, by what they exceeded; `blocked`: sent although told to wait."""
        total: Counter[str] = Counter()
        for activity in self._activity.values():
            total.update(activity.violations)
        return dict(total)

    def clear_violations(self) -> None:
        for activity in self._activity.values():
            activity.violations.clear()

    def leave(self, principal: Principal) -> None:
        self._activity[principal].in_flight -= 1

    def clear(self) -> None:
        """Forget what was counted; requests under way stay counted."""
        for activity in self._activity.values():
            activity.blocked_until = 0.0
            activity.points.clear()
            activity.writes.clear()

    @staticmethod
    def _exceeded(activity: _Activity, method: str, switches: Switches, now: float) -> list[str]:
        """The limits that this request exceeds."""
        points, writes = activity.points, activity.writes
        minute, hour = switches.secondary_minute, switches.secondary_hour
        while points and points[0][0] <= now - minute:
            points.popleft()
        while writes and writes[0] <= now - hour:
            writes.popleft()
        points.append((now, READ_POINTS if method in _READS else WRITE_POINTS))
        if method in _CREATING:
            writes.append(now)
        found = {
            "concurrent": activity.in_flight > switches.secondary_concurrent,
            "points": sum(cost for _, cost in points) > switches.secondary_points_per_minute,
            "writes-per-minute": method in _CREATING
            and sum(1 for at in writes if at > now - minute) > switches.secondary_writes_per_minute,
            "writes-per-hour": method in _CREATING and len(writes) > switches.secondary_writes_per_hour,
        }
        return [name for name, exceeded in found.items() if exceeded]
