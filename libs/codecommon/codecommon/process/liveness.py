"""Watches the event loop: how late it runs, and whether it runs at all.

An input that keeps the loop busy stops the work of every tenant. Such a process has to be seen, and in the end replaced.
"""

from __future__ import annotations

import asyncio
import faulthandler
import time
from collections import deque
from typing import Final

from prometheus_client import Gauge

LOOP_LAG: Final = Gauge(
    "code_event_loop_lag_seconds",
    "How late the event loop ran something that was due; the worst of the last minute.",
)

BEAT_SECONDS: Final = 1.0
_BEATS_KEPT: Final = 60

STALLED_SECONDS: Final = 20
"""Longer than any pause of a loaded machine that we have seen. By then JetStream has given the messages to another replica."""


class Liveness:
    """Measures while ``run`` runs. If the loop does nothing for ``stalled_seconds``, the process ends with exit code 1.

    Its supervisor then starts it again. Before it ends, it writes to stderr where each of its threads is.
    """

    def __init__(self, stalled_seconds: float = STALLED_SECONDS) -> None:
        self._stalled_seconds = stalled_seconds
        self._lags: deque[float] = deque([0.0], maxlen=_BEATS_KEPT)

    @property
    def lag(self) -> float:
        """The worst of the last minute, in seconds."""
        return max(self._lags)

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                # The timer runs in a C thread that needs no interpreter lock. So it also goes off during a long call into C.
                faulthandler.dump_traceback_later(self._stalled_seconds, exit=True)
                due = time.monotonic() + BEAT_SECONDS
                await asyncio.sleep(BEAT_SECONDS)
                self._lags.append(max(0.0, time.monotonic() - due))
                LOOP_LAG.set(self.lag)
        finally:
            faulthandler.cancel_dump_traceback_later()
