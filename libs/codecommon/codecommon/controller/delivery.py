"""One message of the queue: what keeps it ours while it is worked on, and how it is answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

from codecommon.messaging import locks
from codecommon.messaging.events import Lane
from codecommon.messaging.locks import LockLost, ReplicaLock

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ack:
    """The message is done and leaves the queue."""


@dataclass(frozen=True, slots=True)
class PutBack:
    """Deliver the message again ``after`` seconds.

    ``keep``: also on the resync lane, whose messages are otherwise acknowledged: the object's next turn comes by
    itself. ``helps``: another replica could work on it before that.
    """

    after: float
    keep: bool = False
    helps: bool = False


Settlement = Ack | PutBack


class Delivery:
    """A message from the moment it was fetched until it is settled."""

    def __init__(self, msg: Msg, lane: Lane) -> None:
        self.msg: Final = msg
        self.lane: Final[Lane] = lane
        self.put_back: PutBack | None = None
        """How it was put back, if it was."""
        self._settled = False
        self._lock: ReplicaLock | None = None
        self._holder: asyncio.Task[object] | None = None

    @asynccontextmanager
    async def locked(self, bucket: KeyValue, key: str, replica: str, lost_after: float) -> AsyncIterator[None]:
        """Hold the object's lock, ``key`` of ``bucket``, while the body runs.

        Raises ``LockTaken`` when another replica has it. When it is lost, ``keep_alive`` cancels the body, and that
        becomes ``LockLost``.
        """
        lock = await locks.acquire(bucket, key, replica, lost_after)
        self._lock, self._holder = lock, asyncio.current_task()
        try:
            yield
        except asyncio.CancelledError:
            if not lock.lost or self._holder is None:
                raise
            self._holder.uncancel()
            raise LockLost from None
        finally:
            # From here on there is nothing that keep_alive could cancel.
            self._lock = None
            await lock.release()

    async def keep_alive(self, within: float) -> None:
        """Tell the server that the message is being worked on, and renew the lock; ``within`` seconds.

        Cancels the body of ``locked`` when another replica may have the lock by now.
        """
        if self._settled:
            # After "deliver again in 1 s" a sign of life would make the server wait for the whole ack_wait instead.
            return
        if self._lock is not None and self._lock.lost and self._holder is not None:
            _log.warning("lost the lock of an object at work; its handler is stopped")
            self._holder.cancel("lock lost")
            return
        with suppress(NatsError, TimeoutError):
            async with asyncio.timeout(within):
                await self.msg.in_progress()
                if self._lock is not None:
                    await self._lock.renew()

    async def settle(self, settlement: Settlement) -> None:
        """Answer the message. Raises NATS's errors; a message without an answer is delivered again."""
        self._settled = True
        if isinstance(settlement, PutBack) and self._is_kept(settlement):
            await self.msg.nak(delay=settlement.after)
            self.put_back = settlement
        else:
            await self.msg.ack()

    def _is_kept(self, settlement: PutBack) -> bool:
        """On the resync lane a message that was delivered before has been kept on purpose, so it is kept again."""
        return settlement.keep or self.lane == "events" or self.msg.metadata.num_delivered > 1
