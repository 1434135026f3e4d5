"""A server in the place of kcp with scripted answers, and a kubeconfig for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from codecommon.kcp.client import Kcp, ProviderKcp
from codecommon.kcp.identity import ProviderIdentity
from devstack.nats import NatsServer

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedServer:
    """Answers the n-th request with the n-th answer, and repeats the last one. ``requests``: the query parameters of each."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.arrived = asyncio.Condition()
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        answer = self.answers[min(len(self.requests), len(self.answers) - 1)]
        async with self.arrived:
            self.requests.append(dict(request.query))
            self.headers.append(dict(request.headers))
            self.arrived.notify_all()
        return await answer(request)

    async def seen(self, count: int) -> None:
        """Return once ``count`` requests have arrived."""
        async with asyncio.timeout(10), self.arrived:
            await self.arrived.wait_for(lambda: len(self.requests) >= count)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/apiexport/p/e/clusters/*/api/v1/secrets"


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


@pytest.fixture
async def kcp(scripted: ScriptedServer, tmp_path: Path) -> AsyncIterator[Kcp]:
    file = tmp_path / "kubeconfig"
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{scripted.port}"}}],
                "users": [{"name": "k", "user": {"token": "of-the-provider"}}],
                "contexts": [{"name": "k", "context": {"cluster": "k", "user": "k"}}],
                "current-context": "k",
            }
        )
    )
    async with ProviderIdentity(file) as provider:
        yield ProviderKcp(provider)


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path / "nats") as running:
        yield running
