"""When each object is resynced: about once per interval, at times that follow from its uid."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from heapq import heappop, heappush
from typing import Final, NoReturn
from zlib import crc32

from watcher.index import ObjectKey

SOON_SECONDS: Final = 5.0
"""How long after ``ResyncSchedule.soon`` an object is resynced."""

_LONGEST_TICK_SECONDS: Final = 1.0
_FEWEST_TICKS: Final = 50
# The periods of two objects differ by at most this share. If all periods were equal, the host's budget for drift would go to the
# same objects in every round, and the objects behind them would never be compared with the host.
_SPREAD: Final = 1 / 16
_HASHES: Final = 1 << 16


class ResyncSchedule:
    """Objects by the time of their next resync.

    An object's period (the interval, or up to 1/16 less) and phase follow from its uid and the wall clock. So its times stay the
    same over restarts and take-overs, and objects are spread evenly.
    """

    def __init__(self, interval: timedelta) -> None:
        self._interval: Final = interval.total_seconds()
        self.tick: Final = min(_LONGEST_TICK_SECONDS, self._interval / _FEWEST_TICKS)
        self._uids: dict[tuple[str, ObjectKey], str] = {}
        self._new: list[tuple[str, ObjectKey]] = []
        self._heap: list[tuple[float, str, tuple[str, ObjectKey]]] = []
        self._soon: dict[tuple[str, ObjectKey], float | None] = {}
        """When the objects of ``soon`` are due. None: counted from the next call of ``due``."""
        self._last: float | None = None

    def add(self, cluster: str, key: ObjectKey, uid: str) -> None:
        if self._uids.get((cluster, key)) != uid:
            self._uids[cluster, key] = uid
            self._new.append((cluster, key))

    def remove(self, cluster: str, key: ObjectKey, uid: str) -> None:
        if self._uids.get((cluster, key)) == uid:
            del self._uids[cluster, key]

    def soon(self, cluster: str, key: ObjectKey) -> None:
        """Have the object be due once in ``SOON_SECONDS``, beside its turns. Another call before that begins the wait anew."""
        self._soon[cluster, key] = None

    def due(self, now: float) -> Iterator[tuple[str, ObjectKey]]:
        """The objects whose resync became due since the last call. ``now``: seconds since the epoch. The first call has none.

        A late call yields each object at most once. If the clock was set back, the schedule starts again from ``now``.
        """
        if self._last is None or now < self._last:
            self._new, self._heap = list(self._uids), []
            self._soon = dict.fromkeys(self._soon)
        self._last = now
        for at in self._new:
            uid = self._uids.get(at)
            if uid is not None:
                heappush(self._heap, (self._after(now, uid), uid, at))
        self._new = []
        due: dict[tuple[str, ObjectKey], None] = {}
        while self._heap and self._heap[0][0] <= now:
            _, uid, at = heappop(self._heap)
            # An object that was removed, or replaced under its name, is not due. One that was added again is due once.
            if self._uids.get(at) == uid and at not in due:
                due[at] = None
                heappush(self._heap, (self._after(now, uid), uid, at))
        yield from due
        for at, when in list(self._soon.items()):
            if when is None:
                self._soon[at] = now + SOON_SECONDS
            elif when <= now:
                del self._soon[at]
                if at in self._uids and at not in due:
                    yield at

    def _after(self, now: float, uid: str) -> float:
        """The object's first resync after ``now``."""
        digest = crc32(uid.encode())
        period = self._interval * (1 - _SPREAD * (digest % _HASHES) / _HASHES)
        phase = period * (digest // _HASHES) / _HASHES
        turn = ((now - phase) // period + 1) * period + phase
        return turn if turn > now else turn + period


async def run(schedule: ResyncSchedule, resync: Callable[[str, ObjectKey], None]) -> NoReturn:
    """Call ``resync`` for each object when it is due."""
    while True:
        for cluster, key in schedule.due(time.time()):
            resync(cluster, key)
        await asyncio.sleep(schedule.tick)
