"""Shares: no workspace gets more than its part of a replica. What is over it waits in a line of that workspace's
own.
"""

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
    """Counts the running handlers of each workspace. ``cap``: the most of one workspace. ``clock``: seconds,
    monotonic.
    """

    def __init__(self, cap: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._cap = cap
        self._clock = clock
        self._lines: dict[str, _Line] = {}

    def delay(self, workspace: str) -> float | None:
        """None: there is room. Otherwise how long, in seconds, the message waits for its place in the workspace's
        line.
        """
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
        """Count a handler of the workspace while the body runs."""
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
