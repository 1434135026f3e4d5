"""A KV bucket as a table of records that are written by compare-and-set.

Every method raises ``BusUnavailable`` when NATS does not answer. Nothing is known then of whether a write took effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from codecommon.messaging.bus import Bus, or_unavailable


@dataclass(frozen=True, slots=True)
class Record:
    value: bytes
    revision: int


class Records(Protocol):
    async def get(self, key: str) -> Record | None:
        """The newest record, read from the leader of the bucket. None: there is none."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Store it, whatever is there."""
        ...

    async def create(self, key: str, value: bytes) -> bool:
        """Store it if there is none. False: there is one."""
        ...

    async def update(self, key: str, value: bytes, revision: int) -> bool:
        """Store it in place of that revision. False: there is another by now."""
        ...

    async def remove(self, key: str, revision: int) -> None:
        """Remove that revision. A newer one stays. Nothing is left of a removed record, so a bucket does not grow by
        what is gone.
        """
        ...


class BucketRecords:
    """The records of a bucket in NATS."""

    def __init__(self, js: JetStreamContext, bucket: KeyValue, name: str) -> None:
        self._js = js
        self._bucket = bucket
        self._name = name

    @classmethod
    async def open(cls, bus: Bus, name: str) -> BucketRecords:
        return cls(bus.js, await bus.bucket(name), name)

    async def get(self, key: str) -> Record | None:
        with or_unavailable():
            try:
                entry = await self._bucket.get(key)
            except KeyNotFoundError:
                return None
            return Record(entry.value or b"", entry.revision or 0)

    async def put(self, key: str, value: bytes) -> None:
        with or_unavailable():
            await self._bucket.put(key, value)

    async def create(self, key: str, value: bytes) -> bool:
        with or_unavailable():
            try:
                await self._bucket.create(key, value)
            except KeyWrongLastSequenceError:
                return False
            return True

    async def update(self, key: str, value: bytes, revision: int) -> bool:
        with or_unavailable():
            try:
                await self._bucket.update(key, value, last=revision)
            except KeyWrongLastSequenceError:
                return False
            return True

    async def remove(self, key: str, revision: int) -> None:
        # A delete marker would stay for ever in a bucket without TTL. A purge below the next revision leaves none.
        with or_unavailable():
            subject = f"$KV.{self._name}.{key}"
            await self._js.purge_stream(f"KV_{self._name}", seq=revision + 1, subject=subject)
