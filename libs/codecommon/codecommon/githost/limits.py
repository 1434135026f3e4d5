"""The limits that a host puts on one account: those it publishes, how an operator states them, and the quota. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from codecommon.api.durations import parse_duration
from codecommon.githost.host_names import host_entry

LONGEST_PAUSE_SECONDS: Final = 3600.0
"""The most that a host's word makes us wait, counted from the arrival of its answer. GitHub's own windows are an hour long.
Without a bound one header could stop an account for ever."""

_KNOWN: Final = "creates:N/DURATION, points:N/DURATION, interval:DURATION, concurrent:N"


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``count`` within any ``seconds``."""

    count: int
    seconds: float

    @property
    def kept(self) -> float:
        """Seconds for which a request counts: a little longer than the window, because the clocks of replicas differ."""
        return self.seconds + min(1.0, self.seconds / 100)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that are known before a request is sent.

    ``creates``: content-creating requests, which are POST, PUT and PATCH. ``points``: the cost of all requests; a read costs 1, a
    write 5. ``interval``: seconds from the start of one write to the start of the next. ``concurrent``: requests at once, None
    for any number.
    """

    creates: tuple[Window, ...] = ()
    points: tuple[Window, ...] = ()
    interval: float = 0.0
    concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """The requests that an account may make until ``reset`` (epoch seconds), as an answer of the host tells them."""

    limit: int
    remaining: int
    reset: float

    def renewed_soon(self, now: float) -> Quota:
        """The same quota, renewed within ``LONGEST_PAUSE_SECONDS`` from ``now`` at the latest."""
        return replace(self, reset=min(self.reset, now + LONGEST_PAUSE_SECONDS))


def newest(one: Quota | None, other: Quota | None) -> Quota | None:
    """Which of two answers is the later one: within a window the quota only falls."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda quota: (quota.reset, -quota.remaining))


def parse_host_limits(text: str, published: Mapping[str, Limits]) -> Mapping[str, Limits]:
    """``ghe.example=github; 127.0.0.1:8080=creates:80/1m,interval:1s`` by host.

    The host is named as in status, without a scheme's own port. ``published``: the limits that a word such as ``github`` stands
    for. Raises ValueError with what is wrong.
    """
    found: dict[str, Limits] = {}
    for item in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, rules = (part.strip() for part in item.partition("="))
        if not equals:
            raise ValueError(f"{item!r} is not host[:port]=limits")
        host = host_entry(name).removesuffix(":443").removesuffix(":80")
        if host in found:
            raise ValueError(f"{host} is there twice")
        found[host] = published[rules] if rules in published else _limits(rules, published)
    return found


def _limits(text: str, published: Mapping[str, Limits]) -> Limits:
    creates: list[Window] = []
    points: list[Window] = []
    interval, concurrent = 0.0, None
    for rule in (part.strip() for part in text.split(",")):
        name, _, value = rule.partition(":")
        match name:
            case "creates":
                creates.append(_window(rule, value))
            case "points":
                points.append(_window(rule, value))
            case "interval":
                interval = _seconds(rule, value)
            case "concurrent":
                concurrent = _count(rule, value)
            case _:
                raise ValueError(f"{rule!r} is none of: {', '.join((*sorted(published), _KNOWN))}")
    return Limits(tuple(creates), tuple(points), interval, concurrent)


def _window(rule: str, value: str) -> Window:
    count, slash, duration = value.partition("/")
    if not slash:
        raise ValueError(f"{rule!r} does not say within which time, as in 80/1m")
    return Window(_count(rule, count), _seconds(rule, duration))


def _count(rule: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < 1:
        raise ValueError(f"{rule!r} has no number from 1")
    return int(value)


def _seconds(rule: str, value: str) -> float:
    try:
        seconds = parse_duration(value).total_seconds()
    except ValueError as error:
        raise ValueError(f"{rule!r}: {error}") from None
    if seconds <= 0:
        raise ValueError(f"{rule!r} is not longer than zero")
    return seconds
