"""Sends the hub a heartbeat every 30 s.

Once a provider has sent a heartbeat, the hub stops proxying to it when none arrives for 90 s.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import aiohttp
import orjson

from codecommon.process.secrets import SecretValue

_log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 30.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
_VERSION: Final = "0.1.0"
# Bytes instead of a stream: the hub reads a body only if the request has a Content-Length.
_BODY: Final = orjson.dumps({"version": _VERSION, "status": "healthy"})


class HubHeartbeat:
    """Sends heartbeats until cancelled. A failure is logged when it begins, changes and ends. It has no other effect."""

    def __init__(
        self,
        hub_url: str,
        provider: str,
        *,
        token: SecretValue | None = None,
        verify_tls: bool = True,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        """``hub_url`` without a trailing slash; ``interval`` in seconds."""
        self._url = f"{hub_url}/api/providers/{provider}/heartbeat"
        self._provider = provider
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token.reveal()}"
        self._verify_tls = verify_tls
        self._interval = interval
        self._state = ""

    async def run(self) -> None:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                self._report(await self._beat(session))
                await asyncio.sleep(self._interval)

    async def _beat(self, session: aiohttp.ClientSession) -> str:
        """Send one heartbeat. Returns what was wrong, or an empty text."""
        try:
            async with session.post(
                self._url,
                data=_BODY,
                headers=self._headers,
                ssl=self._verify_tls,
                # The bearer token is for the hub only. A redirect could lead elsewhere.
                allow_redirects=False,
            ) as response:
                if response.status == 200:
                    return ""
                if response.status == 404:
                    return f"the hub knows no provider {self._provider!r}; is its CatalogEntry applied?"
                return f"the hub answers {response.status}"
        except TimeoutError:
            return f"no answer within {_TIMEOUT.total:g} s"
        except (aiohttp.ClientError, ValueError) as error:
            # A host name that cannot be encoded raises ValueError.
            return f"{type(error).__name__}: {error}"

    def _report(self, problem: str) -> None:
        state = problem or "ok"
        if state == self._state:
            return
        self._state = state
        if problem:
            _log.warning("the hub does not take heartbeats: %s", problem)
        else:
            _log.info("the hub takes heartbeats for provider %r", self._provider)
