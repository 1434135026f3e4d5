"""The gateway's one connection to NATS. The gateway serves all that needs none while NATS is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NoReturn

from nats.errors import Error as NatsError

from codecommon.messaging.bus import Bus, BusUnavailable
from codecommon.process.service import CannotRun
from codecommon.process.settings import NatsSettings

_log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 10.0


class NatsConnection:
    """Connects while ``run`` runs, as the user ``name`` of the table."""

    def __init__(self, settings: NatsSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._bus: Bus | None = None

    @asynccontextmanager
    async def use(self, purpose: str) -> AsyncIterator[Bus]:
        """The connection, if there is one now. Nothing waits for it.

        Raises ``BusUnavailable``, also for what NATS raises within; the log then names the ``purpose``.
        """
        bus = self._bus
        if bus is None or not bus.nc.is_connected:
            raise BusUnavailable("not connected")
        try:
            yield bus
        except (NatsError, TimeoutError, BusUnavailable) as error:
            _log.warning("NATS does not answer for %s: %s", purpose, str(error) or type(error).__name__)
            raise BusUnavailable(type(error).__name__) from None

    async def run(self, purposes: str) -> NoReturn:
        """Keep a connection for as long as this runs, where others end their process: what makes it fail may be mended.

        The log names the ``purposes``, which wait meanwhile.
        """
        while True:
            try:
                async with Bus.connect(self._settings, self._name) as self._bus:
                    await self._bus.keep_open()
            except (NatsError, OSError, CannotRun) as error:
                why = str(error) if isinstance(error, CannotRun) else type(error).__name__
                _log.warning("no connection to NATS for %s; trying again: %s", purposes, why)
            finally:
                self._bus = None
            await asyncio.sleep(_RETRY_SECONDS)
