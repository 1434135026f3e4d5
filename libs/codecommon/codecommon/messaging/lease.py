"""One active replica per task: a lease in the KV bucket ``CODE_LEASES``.

The holder renews its entry; the bucket's TTL frees it when the holder is gone without a word, and a holder that could not renew
for a while stops before that. A clean end deletes the entry, and the next replica takes over at its next try.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NoReturn

from nats.errors import Error as NatsError
from nats.js.errors import KeyWrongLastSequenceError, NoStreamResponseError
from nats.js.kv import KeyValue

from codecommon.messaging.bus import NotDeclared, raise_if_cancelled
from codecommon.messaging.kv_entry import give_up, own_revision, take

_log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """The lease could not be renewed in time, or another replica has it: stop acting."""


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds. ``lost_after`` lies below the bucket's TTL by more than a renewal takes, so that two never act at once."""

    renew: float = 3.0
    lost_after: float = 10.0
    retry: float = 0.5
    release: float = 2.0


@dataclass(frozen=True, slots=True)
class Term:
    """A time of holding the lease. ``succession``: another replica was seen to hold it while we waited."""

    succession: bool


OpenBucket = Callable[[], Awaitable[KeyValue]]


class Lease:
    """The lease named ``name``.

    ``open_bucket`` returns the bucket, or raises NATS's errors: a server that lost its store has none until ``init`` has run.
    ``holder`` is unique to this process.
    """

    def __init__(self, open_bucket: OpenBucket, name: str, holder: str, timing: LeaseTiming | None = None) -> None:
        self._open_bucket = open_bucket
        self._bucket: KeyValue | None = None
        self._name = name
        # A name may be a URL; a key may not.
        self._key: Final = f"lease.{sha256(name.encode()).hexdigest()[:32]}"
        self._holder = holder.encode()
        self._timing = timing or LeaseTiming()
        self._revision: int | None = None
        self._good_until = 0.0

    @asynccontextmanager
    async def term(self) -> AsyncIterator[Term]:
        """Wait for the lease and hold it while the body runs.

        The body is cancelled when the lease is lost, and an ``ExceptionGroup`` with ``LeaseLost`` raised. When the body ends
        in any other way, the lease is handed over at once.
        """
        try:
            term = await self._acquire()
            _log.info("active for %s", self._name)
            async with asyncio.TaskGroup() as group:
                renewing = group.create_task(self._keep_renewing(), name="lease")
                yield term
                renewing.cancel()
        finally:
            await self._release()

    async def _acquire(self) -> Term:
        succession = False
        said = ""
        while True:
            asked = time.monotonic()
            try:
                await self._claim()
                raise_if_cancelled()
            except KeyWrongLastSequenceError:
                succession, problem = True, "another replica is active"
            except (NatsError, TimeoutError) as error:
                self._forget_lost_bucket(error)
                problem = (
                    str(error) if isinstance(error, NotDeclared) else f"NATS does not answer ({type(error).__name__})"
                )
            else:
                self._good_until = asked + self._timing.lost_after
                return Term(succession)
            raise_if_cancelled()
            if problem != said:
                _log.info("standing by for %s: %s", self._name, problem)
                said = problem
            await asyncio.sleep(self._timing.retry * random.uniform(0.8, 1.2))

    async def _claim(self) -> None:
        self._revision = await take(await self._open(), self._key, self._holder)

    async def _keep_renewing(self) -> NoReturn:
        while True:
            await asyncio.sleep(self._timing.renew)
            while not await self._renew():
                raise_if_cancelled()
                await asyncio.sleep(max(0.0, min(self._timing.retry, self._good_until - time.monotonic())))
            raise_if_cancelled()

    async def _renew(self) -> bool:
        """Whether the renewal is known to have arrived. Raises ``LeaseLost``."""
        asked = time.monotonic()
        if asked >= self._good_until:
            raise LeaseLost(f"the lease of {self._name} could not be renewed for {self._timing.lost_after:g} s")
        try:
            async with asyncio.timeout(self._good_until - asked):
                bucket = await self._open()
                try:
                    self._revision = await bucket.update(self._key, self._holder, last=self._revision)
                except KeyWrongLastSequenceError:
                    # The renewal before this one may have arrived although its answer did not.
                    if await self._adopt(bucket):
                        return False
                    raise LeaseLost(f"another replica has the lease of {self._name}") from None
        except (NatsError, TimeoutError) as error:
            self._forget_lost_bucket(error)
            return False
        self._good_until = asked + self._timing.lost_after
        return True

    async def _adopt(self, bucket: KeyValue) -> bool:
        """Whether the entry is our own; takes over its revision if so."""
        own = await own_revision(bucket, self._key, self._holder)
        if own is not None:
            self._revision = own
        return own is not None

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._open_bucket()
            self._revision = None
        return self._bucket

    def _forget_lost_bucket(self, error: Exception) -> None:
        if isinstance(error, NoStreamResponseError):
            self._bucket = None

    async def _release(self) -> None:
        revision, self._revision = self._revision, None
        if self._bucket is None:
            return
        try:
            async with asyncio.timeout(self._timing.release):
                await give_up(self._bucket, self._key, self._holder, revision)
        except (NatsError, TimeoutError) as error:
            # NATS is away: the TTL frees it.
            _log.info("the lease of %s was not handed over (%s)", self._name, type(error).__name__)
