"""A git host that answers as a test says, whatever it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web

from devstack.ports import LOOPBACK, free_ports

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def nothing_here(request: web.Request) -> web.StreamResponse:
    return web.json_response({"message": "Not Found"}, status=404)


@dataclass
class HostileHost:
    """``answer``: what it does with a request. ``asked``: how many requests there were. ``patience``: set to end `never`."""

    url: str
    answer: Handler = nothing_here
    asked: int = 0
    patience: asyncio.Event = field(default_factory=asyncio.Event)

    async def never(self, request: web.Request) -> web.StreamResponse:
        """Answer when the test is over."""
        await self.patience.wait()
        return web.json_response({}, status=503)


@asynccontextmanager
async def serve_hostile_host() -> AsyncIterator[HostileHost]:
    port = free_ports(1)[0]
    hostile = HostileHost(f"http://{LOOPBACK}:{port}")

    async def handle(request: web.Request) -> web.StreamResponse:
        hostile.asked += 1
        # Whoever asked may have had enough.
        with suppress(ConnectionError):
            return await hostile.answer(request)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        yield hostile
    finally:
        hostile.patience.set()
        await runner.cleanup()
