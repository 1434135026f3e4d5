"""How much work a consumer has now, and how much waits for its time: what autoscaling goes by.

NATS counts a message that was put back as delivered and not acknowledged, until it is delivered again. So its figures alone do
not tell a queue that grows from a tenant who waits for a rate limit. Which messages wait, and until when, is known to the
replica that put them back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from prometheus_client import Gauge

from codecommon.messaging.bus import ConsumerState

PENDING: Final = Gauge(
    "code_consumer_pending_messages",
    "Messages of a consumer that no replica has taken yet. NATS tells all replicas the same, so take the maximum.",
    ("consumer",),
)
TAKEN: Final = Gauge(
    "code_consumer_messages",
    "Messages of a consumer that this replica has taken, by state: running; due (put back, and could be worked on now); waiting "
    "(put back until a time, as for a rate limit or a retry). Add up the replicas. Runnable are: pending, running and due.",
    ("consumer", "state"),
)

_MOST_KNOWN: Final = 100_000


@dataclass(frozen=True, slots=True)
class _Parked:
    """``until``: on the clock, in seconds. ``helps``: another replica could work on it before that."""

    until: float
    helps: bool


class Backlog:
    """The messages of one consumer that this replica has put back. ``clock``: seconds, monotonic.

    Of more than ``most`` it knows none. They count as neither due nor waiting, as do those of a replica that has ended.
    """

    def __init__(self, consumer: str, clock: Callable[[], float] = time.monotonic, *, most: int = _MOST_KNOWN) -> None:
        self._consumer = consumer
        self._clock = clock
        self._most = most
        self._parked: dict[int, _Parked] = {}
        """By the message's sequence in the stream."""

    def put_back(self, sequence: int, after: float, *, helps: bool) -> None:
        """The message is delivered again ``after`` seconds."""
        if len(self._parked) < self._most:
            self._parked[sequence] = _Parked(self._clock() + after, helps)

    def taken(self, sequence: int) -> None:
        """This replica has the message again."""
        self._parked.pop(sequence, None)

    def report(self, state: ConsumerState | None, running: int) -> None:
        """Set the gauges. ``state``: of now; None: NATS does not answer."""
        now = self._clock()
        if state is not None:
            PENDING.labels(self._consumer).set(state.pending)
            if state.has_idle_reader:
                # A request for a message is open, so what was due has been delivered, to this replica or to another.
                self._parked = {seq: parked for seq, parked in self._parked.items() if parked.until > now}
        else:
            # The maximum over the replicas would go by an old figure, and so would autoscaling.
            with suppress(KeyError):
                PENDING.remove(self._consumer)
        due = sum(parked.helps or parked.until <= now for parked in self._parked.values())
        counts = {"running": running, "due": due, "waiting": len(self._parked) - due}
        for name, count in counts.items():
            TAKEN.labels(self._consumer, name).set(count)
