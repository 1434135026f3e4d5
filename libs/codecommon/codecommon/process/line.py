"""A line in which messages wait outside of the process: each is told when its place will be free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SMOOTHING: Final = 0.1
_FIRST_GUESS_SECONDS: Final = 0.1
_SHORTEST_SECONDS: Final = 0.05
_LONGEST_SECONDS: Final = 30.0


@dataclass(slots=True)
class Line:
    """``next_free``: when the place behind the last one that was given away will be free. ``mean_seconds``: of a turn."""

    next_free: float = 0.0
    mean_seconds: float = _FIRST_GUESS_SECONDS

    def wait(self, now: float, at_once: int, *, at_least: float = 0.0) -> float:
        """The seconds until a new place at the end is free, where ``at_once`` turns are taken at a time.

        ``at_least``: seconds that a turn is known to take now, whatever the earlier ones took.
        """
        # They work the line off together, each taking the mean time.
        self.next_free = max(self.next_free, now) + max(self.mean_seconds, at_least) / at_once
        # A message that comes back too early gets a new place: without a bound the line would only ever grow.
        self.next_free = min(self.next_free, now + _LONGEST_SECONDS)
        return max(self.next_free - now, _SHORTEST_SECONDS)

    def took(self, seconds: float) -> None:
        """Learn how long a turn took."""
        self.mean_seconds += _SMOOTHING * (seconds - self.mean_seconds)
