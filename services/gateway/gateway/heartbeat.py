"""Sends the hub a heartbeat every 30 s.

Once a provider has sent a heartbeat, the hub stops proxying to it when none arrives for 90 s.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Final

import aiohttp
import orjson

from codecommon.process.health import Readiness
from codecommon.process.secrets import SecretValue

_log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 30.0
_JITTER: Final = 0.1
"""A heartbeat comes earlier by up to this part of the interval, and never later. So replicas that start together drift apart."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
_READ_SECONDS: Final = 5.0
_MOST_TOKEN_BYTES: Final = 64 << 10


class HubHeartbeat:
    """Sends heartbeats until cancelled. A failure is logged when it begins, changes and ends. It has no other effect."""

    def __init__(
        self,
        hub_url: str,
        provider: str,
        *,
        readiness: Readiness | None = None,
        token: SecretValue | None = None,
        token_file: Path | None = None,
        verify_tls: bool = True,
        interval: float = INTERVAL_SECONDS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``hub_url`` without a trailing slash; ``interval`` in seconds; ``chance`` gives 0 to 1.

        ``token_file`` is read for each heartbeat, and wins over ``token``. While it cannot be read, the last token stays.
        """
        self._url = f"{hub_url}/api/providers/{provider}/heartbeat"
        self._provider = provider
        self._readiness = readiness
        self._token = token
        self._token_file = token_file
        self._verify_tls = verify_tls
        self._interval = interval
        self._chance = chance
        self._version = metadata.version("gateway")
        self._state = ""
        self._reading: asyncio.Task[str] | None = None

    async def run(self) -> None:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                unread = await self._read_token()
                self._report(await self._beat(session) or unread)
                await asyncio.sleep(self._interval * (1 - _JITTER * self._chance()))

    async def _read_token(self) -> str:
        """Read the token anew. Returns what was wrong, or an empty text."""
        if self._token_file is None:
            return ""
        # In a thread, because a network file system can hang. While it does there is no second read: each takes a thread.
        reading = self._reading or asyncio.create_task(asyncio.to_thread(_read, self._token_file))
        self._reading = reading
        done, _ = await asyncio.wait({reading}, timeout=_READ_SECONDS)
        if not done:
            return "KEDGE_HUB_TOKEN_FILE cannot be read: the file system hangs"
        self._reading = None
        try:
            text = reading.result()
        except (OSError, ValueError) as error:
            return f"KEDGE_HUB_TOKEN_FILE cannot be read: {type(error).__name__}"
        if not text:
            return "KEDGE_HUB_TOKEN_FILE is empty"
        self._token = SecretValue(text)
        return ""

    async def _body(self) -> bytes:
        # Bytes instead of a stream: the hub reads a body only if the request has a Content-Length.
        ready = self._readiness is None or (await self._readiness.check()).ready
        return orjson.dumps({"version": self._version, "status": "healthy" if ready else "degraded"})

    async def _beat(self, session: aiohttp.ClientSession) -> str:
        """Send one heartbeat. Returns what was wrong, or an empty text."""
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token.reveal()}"
        try:
            async with session.post(
                self._url,
                data=await self._body(),
                headers=headers,
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


def _read(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(_MOST_TOKEN_BYTES).strip()
