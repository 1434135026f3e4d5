"""Time that a test sets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """Stands still until told otherwise; as ``time.monotonic`` by calling it, as the time of day by ``now``."""

    def __init__(self, start: datetime = EPOCH) -> None:
        self._now = start

    def __call__(self) -> float:
        return (self._now - EPOCH).total_seconds()

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
