"""Shares: no workspace gets more than its part of a replica. What is over it waits in a line of that workspace's
own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from codecommon.process.line import Line


@dataclass(slots=True)
class _Line(Line):
    running: int = 0


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
        return line.wait(self._clock(), self._cap)

    @contextmanager
    def running(self, workspace: str) -> Iterator[None]:
        """Count a handler of the workspace while the body runs."""
        line = self._lines.setdefault(workspace, _Line())
        line.running += 1
        started = self._clock()
        try:
            yield
        finally:
            line.took(self._clock() - started)
            line.running -= 1
            if not line.running and line.next_free <= self._clock():
                del self._lines[workspace]
