"""Faults that a test asks for: which requests they hit, and what happens to those."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

FaultAction = Literal["status", "html_502", "secondary_limit", "reset", "hang", "slow", "truncate"]

FAULT_ACTIONS: tuple[FaultAction, ...] = (
    "status",
    "html_502",
    "secondary_limit",
    "reset",
    "hang",
    "slow",
    "truncate",
)


@dataclass(slots=True, kw_only=True)
class Fault:
    """A rule; the first that matches a request is used up by one.

    `method` and `path` are regular expressions that must match in full; the path is without a leading
    `/api/v3`, decoded. So must those of `query`, by parameter; one that is not there counts as empty, so that
    `{"page": "|1"}` is the first page. `count` None never wears off.

    - `status`: answers `status` with `body` and `headers`.
    - `html_502`: the HTML page of a proxy in front of the API.
    - `secondary_limit`: 403 with the secondary limit's text and `Retry-After: seconds`.
    - `reset`: the connection is reset.
    - `hang`: no answer until the client goes away.
    - `slow`: the answer comes `seconds` later, or once the faults are cleared.
    - `truncate`: half of the answer's body, then the connection is cut; the request always takes effect.

    With `applied` the request takes effect on the host before the fault hits: the answer is lost, not the
    request.
    """

    action: FaultAction
    method: str = ".*"
    path: str = ".*"
    login: str | None = None
    query: dict[str, str] = field(default_factory=dict[str, str])
    count: int | None = 1
    applied: bool = False
    status: int = 500
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 1.0

    def matches(self, method: str, path: str, login: str | None, query: Mapping[str, str]) -> bool:
        return (
            (self.count is None or self.count > 0)
            and (self.login is None or (login or "").lower() == self.login.lower())
            and re.fullmatch(self.method, method) is not None
            and re.fullmatch(self.path, path) is not None
            and all(re.fullmatch(pattern, query.get(name, "")) for name, pattern in self.query.items())
        )


class FaultRules:
    """The rules in the order in which they were added."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []
        self._cleared = asyncio.Event()

    def clear(self) -> None:
        """Remove the rules, and let the answers go that are late."""
        self.rules.clear()
        self._cleared.set()
        self._cleared = asyncio.Event()

    async def delay(self, seconds: float) -> None:
        """Return after so many seconds, or once the rules are cleared."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._cleared.wait(), seconds)

    def take(self, method: str, path: str, login: str | None, query: Mapping[str, str]) -> Fault | None:
        """The fault that hits this request, counted down, or None."""
        for rule in self.rules:
            if rule.matches(method, path, login, query):
                if rule.count is not None:
                    rule.count -= 1
                return rule
        return None
