"""The limits that a host puts on one account, and how an operator writes them down."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from codecommon.api.durations import parse_duration
from codecommon.githost.host_names import host_entry

_KNOWN: Final = "creates:N/DURATION, points:N/DURATION, interval:DURATION, concurrent:N"


@dataclass(frozen=True, slots=True)
class Window:
    """At most ``count`` within any ``seconds``."""

    count: int
    seconds: float

    @property
    def kept(self) -> float:
        """Seconds for which we count a request: a little longer, because the clocks of replicas differ."""
        return self.seconds + min(1.0, self.seconds / 100)


@dataclass(frozen=True, slots=True)
class Limits:
    """``creates``: content-creating requests; ``points``: what requests cost; ``interval``: seconds from the start of one write
    to the next; ``concurrent``: requests at once, None for any number."""

    creates: tuple[Window, ...] = ()
    points: tuple[Window, ...] = ()
    interval: float = 0.0
    concurrent: int | None = None


# https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits
# and, for the interval, its best practices.
GITHUB: Final = Limits((Window(80, 60.0), Window(500, 3600.0)), (Window(900, 60.0),), 1.0, 100)


def parse_host_limits(text: str) -> Mapping[str, Limits]:
    """``ghe.example=github; 127.0.0.1:8080=creates:80/1m,interval:1s`` by the name that status pins, which is without a
    scheme's own port. Raises ValueError with what is wrong.
    """
    found: dict[str, Limits] = {}
    for item in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, rules = (part.strip() for part in item.partition("="))
        if not equals:
            raise ValueError(f"{item!r} is not host[:port]=limits")
        host = host_entry(name).removesuffix(":443").removesuffix(":80")
        if host in found:
            raise ValueError(f"{host} is there twice")
        found[host] = GITHUB if rules == "github" else _limits(rules)
    return found


def _limits(text: str) -> Limits:
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
                raise ValueError(f"{rule!r} is none of: github, {_KNOWN}")
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
