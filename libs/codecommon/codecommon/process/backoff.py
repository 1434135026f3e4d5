"""Growing delays per key. The server's delivery count restarts with every newer event, so it is kept here."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Final

_FIRST_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 300.0
_MOST_KEYS: Final = 50_000


class Backoff:
    """Delay of the n-th failure in a row: 1 s doubling to 5 min, each with up to a quarter of jitter on top."""

    def __init__(
        self, first: float = _FIRST_SECONDS, longest: float = _LONGEST_SECONDS, rng: random.Random | None = None
    ) -> None:
        self._first = first
        self._longest = longest
        self._rng = rng or random.Random()
        self._failures: OrderedDict[str, int] = OrderedDict()

    def failed(self, key: str) -> float:
        """Count a failure; returns the seconds to wait."""
        count = self._failures.pop(key, 0)
        self._failures[key] = count + 1
        if len(self._failures) > _MOST_KEYS:
            self._failures.popitem(last=False)
        return self.jitter(min(self._first * 2.0 ** min(count, 20), self._longest))

    def jitter(self, seconds: float) -> float:
        return seconds * (1 + 0.25 * self._rng.random())

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)
