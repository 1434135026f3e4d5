"""A circuit breaker: whether a host is asked at all, decided from its latest answers. No I/O.

closed ──failures──► open ──probe answered──► recovering ──enough answers──► closed
                      ▲  └─probe failed─┘          │
                      └─────────failures───────────┘
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

Admission = Literal["request", "probe", "refused"]

# On a host that is asked hundreds of times a minute this is no coincidence, and a host that is down gets few requests.
_FAILURES_IN_A_ROW: Final = 5
# For a host that answers now and then: half of the latest requests failed.
_WINDOW: Final = 20
_FAILURES_IN_WINDOW: Final = 10
_FIRST_PROBE_SECONDS: Final = 5.0
# With the spread and the runtime's jitter on top, all who wait come back within 40 s after the host does.
_LONGEST_PROBE_SECONDS: Final = 25.0
# A host that just came back has cold caches, and all who waited ask it again.
_FIRST_AT_ONCE: Final = 4
_ENOUGH_AT_ONCE: Final = 64


class Breaker:
    """The state of one host. Each request that ``admit`` lets pass ends in ``answered``, ``failed`` or ``abandoned``.

    ``clock``: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lately: deque[bool] = deque(maxlen=_WINDOW)
        self._in_a_row = 0
        self._interval = _FIRST_PROBE_SECONDS
        self._next_probe = 0.0
        self._probing = False
        self._at_once: int | None = None
        self._running = 0
        self.is_open = False

    @property
    def next_probe_in(self) -> float:
        """Seconds until the next probe; while one is under way, until the one that follows if it fails at once."""
        return self._interval if self._probing else max(0.0, self._next_probe - self._clock())

    @property
    def is_full(self) -> bool:
        """Whether the host has just come back, and as many requests are under way as it may get at once."""
        return not self.is_open and self._at_once is not None and self._running >= self._at_once

    def admit(self) -> Admission:
        """Whether a request may go out now. Ask ``is_full`` first."""
        if not self.is_open:
            self._running += 1
            return "request"
        if self._probing or self._clock() < self._next_probe:
            return "refused"
        self._probing = True
        self._running += 1
        return "probe"

    def answered(self) -> None:
        self._running -= 1
        self._in_a_row = 0
        if self.is_open:
            # Any answer counts, even to a request that was sent before the breaker opened.
            self._close()
        elif self._at_once is not None:
            # One more for each answer doubles the number with each round trip.
            self._at_once += 1
            if self._at_once >= _ENOUGH_AT_ONCE:
                self._at_once = None
        self._lately.append(True)

    def failed(self, admission: Admission) -> None:
        self._running -= 1
        self._in_a_row += 1
        self._lately.append(False)
        if self.is_open:
            # A request that was sent before the breaker opened says nothing new.
            if admission == "probe":
                self._probe_again_after(min(self._interval * 2, _LONGEST_PROBE_SECONDS))
        elif self._in_a_row >= _FAILURES_IN_A_ROW or self._lately.count(False) >= _FAILURES_IN_WINDOW:
            self.is_open = True
            self._probe_again_after(_FIRST_PROBE_SECONDS)

    def abandoned(self, admission: Admission) -> None:
        """The request ended in a way that says nothing about the host. After a probe, the next request may probe again."""
        self._running -= 1
        if admission == "probe":
            self._probing = False

    def _probe_again_after(self, seconds: float) -> None:
        self._probing = False
        self._interval = seconds
        self._next_probe = self._clock() + seconds

    def _close(self) -> None:
        self.is_open = False
        self._probing = False
        self._at_once = _FIRST_AT_ONCE
        self._lately.clear()
