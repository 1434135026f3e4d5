"""A web server on loopback that nobody should ever ask anything: it only counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from devstack.ports import LOOPBACK, free_ports


@dataclass
class ForeignHost:
    """``requests``: method and path of everything that arrived at ``url``."""

    url: str
    requests: list[str] = field(default_factory=list)


@asynccontextmanager
async def foreign_host() -> AsyncIterator[ForeignHost]:
    port = free_ports(1)[0]
    host = ForeignHost(f"http://{LOOPBACK}:{port}")

    async def record(request: web.Request) -> web.Response:
        host.requests.append(f"{request.method} {request.path}")
        return web.json_response({"login": "somebody", "id": 1})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", record)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        yield host
    finally:
        await runner.cleanup()
