"""One worker per object: a keyed mutex within the process, a KV entry across replicas.

The KV lock saves work only. Correctness rests on guarded writes: a holder that lost its lock can do no harm that a conflict
would not catch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from nats.errors import Error as NatsError
from nats.js.errors import KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from codecommon.messaging.kv_entry import give_up, own_revision, take

RENEW_SECONDS: Final = 5.0
LOST_AFTER_SECONDS: Final = 10.0


class Taken(Exception):
    """Another replica is at work on the object."""


class KeyedMutex:
    """An ``asyncio.Lock`` per key that exists only while somebody holds or wants it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        """How many keys are held or wanted."""
        return len(self._locks)

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)


class ReplicaLock:
    """A lock entry in ``CODE_LOCKS``. ``lost`` is true once it could not be renewed for ``lost_after`` seconds."""

    def __init__(
        self, bucket: KeyValue, key: str, value: bytes, revision: int, lost_after: float = LOST_AFTER_SECONDS
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._value = value
        self._revision = revision
        self._lost_after = lost_after
        self._renewed = time.monotonic()
        # A renewal under way when the handler ends would make its release miss the entry, which then stays until it expires.
        self._writing = asyncio.Lock()

    @property
    def lost(self) -> bool:
        return time.monotonic() - self._renewed > self._lost_after

    async def renew(self) -> None:
        """Extend the entry by its TTL; a failure only shows in ``lost`` after a while."""
        with suppress(NatsError, TimeoutError):
            async with self._writing:
                try:
                    self._revision = await self._bucket.update(self._key, self._value, last=self._revision)
                except KeyWrongLastSequenceError:
                    # Either another has it by now, or a renewal took effect whose answer did not come.
                    own = await own_revision(self._bucket, self._key, self._value)
                    if own is None:
                        return
                    self._revision = own
                self._renewed = time.monotonic()

    async def release(self) -> None:
        """Let the next one have it; one that cannot be released now expires by itself."""
        with suppress(NatsError, TimeoutError):
            async with self._writing:
                await give_up(self._bucket, self._key, self._value, self._revision)


async def acquire(bucket: KeyValue, key: str, owner: str, lost_after: float = LOST_AFTER_SECONDS) -> ReplicaLock:
    """Take the lock of an object; raises ``Taken`` when another replica has it.

    ``owner`` names this replica, which holds the object's mutex: an entry of its own is left of a request that was not answered.
    """
    value = owner.encode()
    try:
        revision = await take(bucket, key, value)
    except KeyWrongLastSequenceError:
        raise Taken from None
    return ReplicaLock(bucket, key, value, revision, lost_after)
