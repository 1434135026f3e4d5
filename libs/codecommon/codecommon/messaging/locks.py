"""One worker per object: a mutex within the process, and an entry in a KV bucket across replicas.

The KV lock only saves work. Correctness rests on guarded writes: when a holder has lost its lock, a conflict catches
its writes.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final

from nats.errors import Error as NatsError
from nats.js.errors import KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from codecommon.messaging.kv_entry import give_up, own_revision, take

RENEW_SECONDS: Final = 5.0
LOST_AFTER_SECONDS: Final = 10.0


class LockTaken(Exception):
    """Another replica works on the object."""


class LockLost(Exception):
    """The lock could not be renewed in time, so another replica may have it by now."""


class ReplicaLock:
    """A lock entry in ``CODE_LOCKS``. Whoever holds it renews it; ``lost`` says that this has failed for too long."""

    def __init__(self, bucket: KeyValue, key: str, value: bytes, revision: int, lost_after: float) -> None:
        self._bucket = bucket
        self._key = key
        self._value = value
        self._revision = revision
        self._lost_after = lost_after
        self._renewed = time.monotonic()
        # A renewal that is under way at the end would make the release miss the entry, which would then stay until it
        # expires.
        self._writing = asyncio.Lock()

    @property
    def lost(self) -> bool:
        return time.monotonic() - self._renewed > self._lost_after

    async def renew(self) -> None:
        """Extend the entry by its TTL. A failure shows in ``lost`` after a while."""
        with suppress(NatsError, TimeoutError):
            async with self._writing:
                try:
                    self._revision = await self._bucket.update(self._key, self._value, last=self._revision)
                except KeyWrongLastSequenceError:
                    # Either another replica has it, or a renewal arrived whose answer did not.
                    own = await own_revision(self._bucket, self._key, self._value)
                    if own is None:
                        return
                    self._revision = own
                self._renewed = time.monotonic()

    async def release(self) -> None:
        """Let the next one have it. If that fails, the entry expires by itself."""
        with suppress(NatsError, TimeoutError):
            async with self._writing:
                await give_up(self._bucket, self._key, self._value, self._revision)


async def acquire(bucket: KeyValue, key: str, replica: str, lost_after: float = LOST_AFTER_SECONDS) -> ReplicaLock:
    """Take the lock of an object. Raises ``LockTaken`` when another replica has it.

    ``replica`` names this replica, which holds the object's mutex already. So an entry under its own name is left over
    from a request whose answer was lost, and is taken over.
    """
    value = replica.encode()
    try:
        revision = await take(bucket, key, value)
    except KeyWrongLastSequenceError:
        raise LockTaken from None
    return ReplicaLock(bucket, key, value, revision, lost_after)
