"""When each object has its turn in the drift pass: once per interval, at the phase that its uid gives it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final, NoReturn
from zlib import crc32

from watcher.index import ObjectKey

_LONGEST_TICK_SECONDS: Final = 1.0
_FEWEST_SLOTS: Final = 50


class ResyncSchedule:
    """Objects by the slot of the interval that their turn is in.

    The phase comes from the uid and the wall clock, so it stays the same over restarts and take-overs, and objects spread evenly.
    """

    def __init__(self, interval: timedelta) -> None:
        seconds = interval.total_seconds()
        count = max(_FEWEST_SLOTS, round(seconds / _LONGEST_TICK_SECONDS))
        self.tick: Final = seconds / count
        self._slots: list[set[tuple[str, ObjectKey]]] = [set() for _ in range(count)]
        self._last: int | None = None

    def add(self, cluster: str, key: ObjectKey, uid: str) -> None:
        self._slot(uid).add((cluster, key))

    def remove(self, cluster: str, key: ObjectKey, uid: str) -> None:
        self._slot(uid).discard((cluster, key))

    def due(self, now: float) -> Iterator[tuple[str, ObjectKey]]:
        """Objects whose turn came since the last call; ``now`` in seconds since the epoch. The first call has none.

        A late call catches up, by one interval at most; after the clock was set back it goes on from there.
        """
        current = int(now / self.tick)
        last, self._last = self._last, current
        if last is None:
            return
        count = len(self._slots)
        for turn in range(max(last, current - count) + 1, current + 1):
            yield from list(self._slots[turn % count])

    def _slot(self, uid: str) -> set[tuple[str, ObjectKey]]:
        return self._slots[crc32(uid.encode()) % len(self._slots)]


async def run(schedule: ResyncSchedule, resync: Callable[[str, ObjectKey], None]) -> NoReturn:
    """Call ``resync`` for each object at its turn."""
    while True:
        for cluster, key in schedule.due(time.time()):
            resync(cluster, key)
        await asyncio.sleep(schedule.tick)
