"""No workspace gets more than its share of a replica, and what is over it waits in that workspace's own line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

_SMOOTHING: Final = 0.1
_FIRST_GUESS_SECONDS: Final = 0.1
_SHORTEST_SECONDS: Final = 0.05
_LONGEST_SECONDS: Final = 30.0


@dataclass(slots=True)
class _Line:
    running: int = 0
    # When the place behind the last one that was given away will be free.
    next_free: float = 0.0
    mean_seconds: float = _FIRST_GUESS_SECONDS


class Shares:
    """Counts what runs per workspace; tells what is over the cap when to come back."""

    def __init__(self, cap: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._cap = cap
        self._clock = clock
        self._lines: dict[str, _Line] = {}

    def delay(self, workspace: str) -> float | None:
        """None: there is room. Otherwise the seconds until this message's place in the workspace's line is due."""
        line = self._lines.get(workspace)
        if line is None or line.running < self._cap:
            return None
        now = self._clock()
        # The cap's worth of handlers works the line off together, each taking the mean time.
        line.next_free = max(line.next_free, now) + line.mean_seconds / self._cap
        # A message that comes back too early gets a new place: without a bound the line would only ever grow.
        line.next_free = min(line.next_free, now + _LONGEST_SECONDS)
        return max(line.next_free - now, _SHORTEST_SECONDS)

    @contextmanager
    def running(self, workspace: str) -> Iterator[None]:
        line = self._lines.setdefault(workspace, _Line())
        line.running += 1
        started = self._clock()
        try:
            yield
        finally:
            line.mean_seconds += _SMOOTHING * (self._clock() - started - line.mean_seconds)
            line.running -= 1
            if not line.running and line.next_free <= self._clock():
                del self._lines[workspace]
