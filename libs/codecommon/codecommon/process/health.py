"""Serves ``/livez``, ``/readyz`` and ``/metrics``.

A process is alive if it answers. ``/livez`` also tells how late its event loop runs. A process is ready if every ping succeeds.
A ping asks something that the process cannot work without.

What an operator has to mend although the process can work is a complaint. It stands in the answer and makes nothing unready.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from codecommon.process.liveness import Liveness

_log = logging.getLogger(__name__)

Ping = Callable[[], Awaitable[object]]
Complaint = Callable[[], str | None]
"""What an operator has to do; None: nothing. Everybody who reaches the port can read it."""

_PING_SECONDS: Final = 2.0
_OK: Final = "ok"


@dataclass(frozen=True, slots=True)
class Report:
    """What ``/readyz`` answers. ``pings`` maps a name to ``ok`` or to the kind of failure, without its details.

    ``degraded`` maps the name of what is amiss to its complaint.
    """

    phase: str
    pings: dict[str, str]
    degraded: dict[str, str]

    @property
    def ready(self) -> bool:
        return self.phase == "started" and all(result == _OK for result in self.pings.values())

    @property
    def http_status(self) -> int:
        return 200 if self.ready else 503

    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = {"ready": self.ready, "phase": self.phase, "pings": self.pings}
        return body | ({"degraded": self.degraded} if self.degraded else {})


class Readiness:
    """The pings of a process, and whether it has started or is stopping."""

    def __init__(self, ping_seconds: float = _PING_SECONDS) -> None:
        self._ping_seconds = ping_seconds
        self._pings: dict[str, Ping] = {}
        self._complaints: dict[str, Complaint] = {}
        self._failing: set[str] = set()
        self.phase = "starting"
        """``starting``, ``started`` or ``stopping``."""

    def ping(self, name: str, ping: Ping) -> None:
        """Make ``ping`` a condition of being ready. It fails if it raises or takes longer than two seconds."""
        self._pings[name] = ping

    def complaint(self, name: str, complaint: Complaint) -> None:
        """Show what ``complaint`` returns. It never makes the process unready."""
        self._complaints[name] = complaint

    async def check(self) -> Report:
        """Run all pings at once."""
        results = await asyncio.gather(*(self._try(name, ping) for name, ping in self._pings.items()))
        said = ((name, complaint()) for name, complaint in self._complaints.items())
        degraded = {name: text for name, text in said if text is not None}
        return Report(self.phase, dict(zip(self._pings, results, strict=True)), degraded)

    async def _try(self, name: str, ping: Ping) -> str:
        try:
            async with asyncio.timeout(self._ping_seconds):
                await ping()
        except TimeoutError as error:
            result = f"no answer within {self._ping_seconds:g} s"
            self._failed(name, error)
        except Exception as error:  # noqa: BLE001 - whatever a ping raises is its result
            # Everybody who reaches the port can read the answer, so the text of the error goes to the log only.
            result = type(error).__name__
            self._failed(name, error)
        else:
            result = _OK
            if name in self._failing:
                self._failing.discard(name)
                _log.info("%s answers again", name)
        return result

    def _failed(self, name: str, error: Exception) -> None:
        if name not in self._failing and self.phase == "started":
            self._failing.add(name)
            _log.warning("not ready: %s: %s: %s", name, type(error).__name__, error)


@asynccontextmanager
async def serve(readiness: Readiness, liveness: Liveness, host: str, port: int) -> AsyncIterator[tuple[str, int]]:
    """Serve the three endpoints and yield the host and port. Raises ``OSError`` if it cannot listen there.

    Port 0 picks a free port. An empty ``host`` means loopback for port 0, and all interfaces for any other port.
    """
    runner = web.AppRunner(_app(readiness, liveness), access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host or (None if port else "127.0.0.1"), port).start()
        address: tuple[str, int] = runner.addresses[0][:2]
        yield address
    finally:
        await runner.cleanup()


def _app(readiness: Readiness, liveness: Liveness) -> web.Application:
    async def livez(_: web.Request) -> web.Response:
        return _json(200, {"alive": True, "loopLagSeconds": round(liveness.lag, 3)})

    async def readyz(_: web.Request) -> web.Response:
        report = await readiness.check()
        return _json(report.http_status, report.body())

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


def _json(status: int, body: dict[str, Any]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
