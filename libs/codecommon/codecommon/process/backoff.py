"""Growing retry delays per key.

NATS counts deliveries per message. A newer event replaces the message, so its count does not tell how often an object has failed.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Final

_FIRST_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 300.0
_MOST_KEYS: Final = 50_000


class Backoff:
    """The delay after a failure doubles with each one in a row, by default from 1 s to 5 min, with up to 25 % of jitter on top.

    It remembers 50,000 keys. The key that failed longest ago is forgotten first.
    """

    def __init__(
        self, first: float = _FIRST_SECONDS, longest: float = _LONGEST_SECONDS, rng: random.Random | None = None
    ) -> None:
        self._first = first
        self._longest = longest
        self._rng = rng or random.Random()
        self._failures: OrderedDict[str, int] = OrderedDict()

    def failed(self, key: str) -> float:
        """Count a failure. Returns the seconds to wait."""
        count = self._failures.pop(key, 0)
        self._failures[key] = count + 1
        if len(self._failures) > _MOST_KEYS:
            self._failures.popitem(last=False)
        return self.jitter(min(self._first * 2.0 ** min(count, 20), self._longest))

    def jitter(self, seconds: float) -> float:
        """``seconds`` and up to 25 % more."""
        return seconds * (1 + 0.25 * self._rng.random())

    def succeeded(self, key: str) -> None:
        """The next failure of ``key`` counts as the first."""
        self._failures.pop(key, None)
