"""Poison messages: those whose handling ends the process.

The server counts deliveries, but it also delivers a message again that was put back on purpose. So each redelivery is
noted in a bucket before it is handled, and the note is removed with the result, whatever that is. The notes that are
left count the deaths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nats.aio.msg import Msg
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from codecommon.messaging.events import ObjectEvent

_POISON_AFTER: Final = 5


@dataclass(slots=True)
class Attempt:
    """One delivery. ``failures``: how many before it had no result. ``is_poison``: it must not be handled now."""

    failures: int
    is_poison: bool
    _bucket: KeyValue | None = None
    _key: str = ""

    async def succeeded(self) -> None:
        """The handler came to a result: forget the failures."""
        if self._bucket is not None:
            await self._bucket.purge(self._key)


class PoisonMessages:
    """Counts the deliveries without a result, by object, in the bucket ``CODE_POISON_MESSAGES``."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def begin(self, msg: Msg, event: ObjectEvent) -> Attempt:
        """Note that ``msg`` is about to be handled. A first delivery costs no request."""
        if msg.metadata.num_delivered <= 1:
            return Attempt(0, False)
        # The first delivery was not noted, so it counts on top.
        key = event.uid
        failures = 1 + await self._count(key)
        if failures >= _POISON_AFTER:
            await self._bucket.purge(key)
            return Attempt(failures, True)
        await self._bucket.put(key, str(failures).encode())
        return Attempt(failures, False, self._bucket, key)

    async def _count(self, key: str) -> int:
        try:
            entry = await self._bucket.get(key)
        except KeyNotFoundError:
            return 0
        return int(entry.value or b"0")
