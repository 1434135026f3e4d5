"""The flows that have begun, in NATS: each is answered once, by whichever replica the browser comes back to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from nats.errors import Error as NatsError

from codecommon.messaging.bus import OAUTH_FLOWS, Bus, BusUnavailable
from codecommon.messaging.records import BucketRecords, Records
from codecommon.process.service import CannotRun
from codecommon.process.settings import NatsSettings

_log = logging.getLogger(__name__)

_BEGUN: Final = b"begun"
_TAKEN: Final = b"taken"
# A person waits in front of a popup.
_ANSWER_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 10.0
# Nobody who begins is known. With this a replica stores 10,000 flows at most within their time to live, some MB.
_MOST_PER_MINUTE: Final = 1000


class TooManyFlows(Exception):
    """More begin than people can."""


class Flows:
    """Every method raises ``BusUnavailable`` while NATS is away."""

    def __init__(self, nats: NatsSettings, name: str) -> None:
        self._nats = nats
        self._name = name
        self._bus: Bus | None = None
        self._records: Records | None = None
        self._minute = 0
        self._begun = 0

    async def keep_connected(self) -> NoReturn:
        """Keep a connection to NATS for as long as this runs. The gateway serves all else without."""
        while True:
            try:
                async with Bus.connect(self._nats, self._name) as self._bus:
                    await self._bus.keep_open()
            except (NatsError, OSError, CannotRun) as error:
                why = str(error) if isinstance(error, CannotRun) else type(error).__name__
                _log.warning("Connect with GitHub has no NATS and tries again: %s", why)
            finally:
                self._bus = self._records = None
            await asyncio.sleep(_RETRY_SECONDS)

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
        bus = self._bus
        if bus is None or not bus.nc.is_connected:
            raise BusUnavailable("not connected")
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                if self._records is None:
                    self._records = await BucketRecords.open(bus, OAUTH_FLOWS)
                return await ask(self._records)
        except (NatsError, TimeoutError, BusUnavailable) as error:
            # The bucket may be another one by then, of a server that had lost its store.
            self._records = None
            _log.warning("NATS does not answer Connect with GitHub: %s", str(error) or type(error).__name__)
            raise BusUnavailable(type(error).__name__) from None
