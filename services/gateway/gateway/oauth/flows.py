"""The flows that have begun, in NATS: each is answered once, by whichever replica the browser comes back to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from codecommon.messaging.bus import OAUTH_FLOWS
from codecommon.messaging.records import BucketRecords, Records
from gateway.nats_connection import NatsConnection

_BEGUN: Final = b"begun"
_TAKEN: Final = b"taken"
# A person waits in front of a popup.
_ANSWER_SECONDS: Final = 5.0
# Nobody who begins is known. With this a replica stores 10,000 flows at most within their time to live, some MB.
_MOST_PER_MINUTE: Final = 1000


class TooManyFlows(Exception):
    """More begin than people can."""


class Flows:
    """Every method raises ``BusUnavailable`` while NATS is away."""

    def __init__(self, nats: NatsConnection) -> None:
        self._nats = nats
        self._minute = 0
        self._begun = 0

    async def begin(self, flow_id: str) -> None:
        """Raises ``TooManyFlows`` besides."""
        self._count()

        async def create(records: Records) -> bool:
            return await records.create(flow_id, _BEGUN)

        if not await self._with_records(create):
            raise RuntimeError("a random number came twice")

    async def take(self, flow_id: str) -> bool:
        """Whether the flow has begun and nobody has taken it before. Of several who ask at once, one is told so."""

        async def update(records: Records) -> bool:
            record = await records.get(flow_id)
            # Marked, not removed: a removal does not say who was first. The mark goes with the bucket's time to live.
            return (
                record is not None and record.value == _BEGUN and await records.update(flow_id, _TAKEN, record.revision)
            )

        return await self._with_records(update)

    def _count(self) -> None:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._begun = minute, 0
        self._begun += 1
        if self._begun > _MOST_PER_MINUTE:
            raise TooManyFlows

    async def _with_records(self, ask: Callable[[Records], Awaitable[bool]]) -> bool:
        async with self._nats.use("Connect with GitHub") as bus, asyncio.timeout(_ANSWER_SECONDS):
            # Opened each time: it may be another bucket by now, of a server that had lost its store.
            return await ask(await BucketRecords.open(bus, OAUTH_FLOWS))
