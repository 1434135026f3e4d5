"""Messages whose handling ends the process.

The server counts deliveries, but a message that was put back on purpose is delivered again too. So a redelivery is noted
in a bucket before it is handled and cleared with its result, whatever that is: what is left counts the deaths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nats.aio.msg import Msg
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from codecommon.messaging.events import ObjectEvent

_OUT_AFTER: Final = 5


@dataclass(slots=True)
class Suspicion:
    """``count`` deliveries without a result so far; ``out``: not to be handled now."""

    count: int
    out: bool
    _bucket: KeyValue | None = None
    _key: str = ""

    async def clear(self) -> None:
        if self._bucket is not None:
            await self._bucket.purge(self._key)


class PoisonMessages:
    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def before(self, msg: Msg, event: ObjectEvent) -> Suspicion:
        """Note that ``msg`` is about to be handled; first deliveries cost nothing."""
        if msg.metadata.num_delivered <= 1:
            return Suspicion(0, False)
        # The first delivery was not noted, hence the one on top.
        key = event.uid
        count = 1 + await self._count(key)
        if count >= _OUT_AFTER:
            await self._bucket.purge(key)
            return Suspicion(count, True)
        await self._bucket.put(key, str(count).encode())
        return Suspicion(count, False, self._bucket, key)

    async def _count(self, key: str) -> int:
        try:
            entry = await self._bucket.get(key)
        except KeyNotFoundError:
            return 0
        return int(entry.value or b"0")
