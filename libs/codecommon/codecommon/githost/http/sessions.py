"""Open connections to git hosts: a session for all who trust the well-known authorities, and a few for those with a caBundle.

Tenants choose their caBundle, so the number of sessions is bounded. A session is looked up for each request, and nobody keeps it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from codecommon.githost.http.trust import WELL_KNOWN, Authorities, tls_context

_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=15)
_KEEP_ALIVE_SECONDS: Final = 30
# A TLS context has 0.7 MB, so all of them have 22 MB. An installation has one or two bundles.
_MOST_BUNDLES: Final = 32
_MOST_PER_BUNDLE: Final = 16


@dataclass(slots=True)
class _Session:
    """``places``: what bounds its requests at once. ``running``: those that wait for a place or are under way.

    ``proven``: the host has carried out a request, as it does for a valid Connection.
    """

    client: aiohttp.ClientSession
    places: tuple[asyncio.Semaphore, ...]
    running: int = 0
    proven: bool = False


class Sessions:
    def __init__(self) -> None:
        self._sessions: OrderedDict[Authorities, _Session] = OrderedDict()

    @asynccontextmanager
    async def session(self, authorities: Authorities) -> AsyncIterator[_Session]:
        """The session for one request. Set ``proven`` if the host carries it out; one that never does is closed after it."""
        session = self._sessions.get(authorities)
        if session is None:
            session = self._sessions[authorities] = _session(authorities)
        self._sessions.move_to_end(authorities)
        session.running += 1
        try:
            await self._shrink()
            yield session
        finally:
            session.running -= 1
            current = self._sessions.get(authorities) is session
            if session.running == 0 and not (current and (session.proven or authorities == WELL_KNOWN)):
                if current:
                    del self._sessions[authorities]
                await session.client.close()

    async def _shrink(self) -> None:
        """Forget the bundles that were used longest ago. A session with requests under way is closed after the last of them."""
        bundles = [authorities for authorities in self._sessions if authorities != WELL_KNOWN]
        for authorities in bundles[: max(0, len(bundles) - _MOST_BUNDLES)]:
            session = self._sessions.pop(authorities)
            if session.running == 0:
                await session.client.close()

    async def aclose(self) -> None:
        for session in self._sessions.values():
            await session.client.close()
        self._sessions.clear()


def _session(authorities: Authorities) -> _Session:
    client = aiohttp.ClientSession(
        # ``places`` and ``Network`` bound the requests, and so the connections. A wait in aiohttp would count against the host.
        connector=aiohttp.TCPConnector(ssl=tls_context(authorities), limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
        timeout=_TIMEOUT,
        # All tenants share the session: what a host sets for one must not reach it from another.
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )
    return _Session(client, () if authorities == WELL_KNOWN else (asyncio.Semaphore(_MOST_PER_BUNDLE),))
