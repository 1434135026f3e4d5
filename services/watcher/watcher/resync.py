"""When each object has its turn in the drift pass: about once per interval, at times that its uid gives it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from heapq import heappop, heappush
from typing import Final, NoReturn
from zlib import crc32

from watcher.index import ObjectKey

_LONGEST_TICK_SECONDS: Final = 1.0
_FEWEST_TICKS: Final = 50
# Periods differ by so much at most. Were they all the same, the host's budget for drift would go to the same objects in each
# round, and those whose turn is behind theirs would never be looked at.
_SPREAD: Final = 1 / 16
_HASHES: Final = 1 << 16


class ResyncSchedule:
    """Objects by the time of their next turn.

    Period (an interval, or a little less) and phase come from the uid and the wall clock, so turns stay the same over restarts
    and take-overs, and objects spread evenly.
    """

    def __init__(self, interval: timedelta) -> None:
        self._interval: Final = interval.total_seconds()
        self.tick: Final = min(_LONGEST_TICK_SECONDS, self._interval / _FEWEST_TICKS)
        self._uids: dict[tuple[str, ObjectKey], str] = {}
        self._new: list[tuple[str, ObjectKey]] = []
        self._turns: list[tuple[float, str, tuple[str, ObjectKey]]] = []
        self._last: float | None = None

    def add(self, cluster: str, key: ObjectKey, uid: str) -> None:
        if self._uids.get((cluster, key)) != uid:
            self._uids[cluster, key] = uid
            self._new.append((cluster, key))

    def remove(self, cluster: str, key: ObjectKey, uid: str) -> None:
        if self._uids.get((cluster, key)) == uid:
            del self._uids[cluster, key]

    def due(self, now: float) -> Iterator[tuple[str, ObjectKey]]:
        """Objects whose turn came since the last call; ``now`` in seconds since the epoch. The first call has none.

        A late call brings each object once at most; after the clock was set back it goes on from there.
        """
        if self._last is None or now < self._last:
            self._new, self._turns = list(self._uids), []
        self._last = now
        for at in self._new:
            uid = self._uids.get(at)
            if uid is not None:
                heappush(self._turns, (self._after(now, uid), uid, at))
        self._new = []
        due: dict[tuple[str, ObjectKey], None] = {}
        while self._turns and self._turns[0][0] <= now:
            _, uid, at = heappop(self._turns)
            # What was removed, or replaced under its name, has no turn; what was removed and added again has no second one.
            if self._uids.get(at) == uid and at not in due:
                due[at] = None
                heappush(self._turns, (self._after(now, uid), uid, at))
        yield from due

    def _after(self, now: float, uid: str) -> float:
        """The object's first turn after ``now``."""
        digest = crc32(uid.encode())
        period = self._interval * (1 - _SPREAD * (digest % _HASHES) / _HASHES)
        phase = period * (digest // _HASHES) / _HASHES
        turn = ((now - phase) // period + 1) * period + phase
        return turn if turn > now else turn + period


async def run(schedule: ResyncSchedule, resync: Callable[[str, ObjectKey], None]) -> NoReturn:
    """Call ``resync`` for each object at its turn."""
    while True:
        for cluster, key in schedule.due(time.time()):
            resync(cluster, key)
        await asyncio.sleep(schedule.tick)
