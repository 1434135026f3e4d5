"""The simulator as an HTTP server."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web

from devstack.githubsim import control_api, oauth_pages
from devstack.githubsim.areas import OPERATIONS
from devstack.githubsim.calls import Operation
from devstack.githubsim.pipeline import ENTERPRISE_PREFIX, UNSERVED, serve
from devstack.githubsim.simulation import Simulation
from devstack.githubsim.world import Clock, World

_BY_NAME, _BY_ID = "/repos/{owner}/{repo}", r"/repositories/{repository_id:\d+}"
# Requests that a fault keeps waiting are cut when the server stops; nothing is worth waiting for.
_SHUTDOWN_TIMEOUT = 0.1


class GithubSim:
    """A running simulator. `url` is its base; the API is there and below `/api/v3`."""

    def __init__(self, simulation: Simulation, url: str) -> None:
        self.simulation = simulation
        self.url = url

    @classmethod
    @asynccontextmanager
    async def serve(
        cls,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = time.time,
        world: World | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[GithubSim]:
        """Serve until the block is left. Port 0 takes a free one. Raises OSError if the port is taken."""
        simulation = Simulation(clock, world)
        runner = web.AppRunner(application(simulation), access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
            bound_port = runner.addresses[0][1]
            yield cls(simulation, f"{'https' if tls else 'http'}://{host}:{bound_port}")
        finally:
            await runner.cleanup()


def application(simulation: Simulation) -> web.Application:
    """The API at both of its bases, and beside it the web flow of OAuth and the control API."""
    app = web.Application()
    control_api.add_routes(app, simulation)
    oauth_pages.add_routes(app, simulation)
    for operation in OPERATIONS:
        _add(app, simulation, operation)
    unserved = partial(serve, simulation, UNSERVED)
    app.router.add_route("*", "/{path:.*}", unserved)
    return app


def _add(app: web.Application, simulation: Simulation, operation: Operation) -> None:
    """Every operation on a repository also answers to the repository's id, which redirects lead to."""
    paths = [operation.path]
    if operation.path.startswith(_BY_NAME):
        paths.append(_BY_ID + operation.path.removeprefix(_BY_NAME))
    handler = partial(serve, simulation, operation)
    for path in paths:
        app.router.add_route(operation.method, path, handler)
        app.router.add_route(operation.method, ENTERPRISE_PREFIX + path, handler)
    if operation.path == "/":
        app.router.add_route(operation.method, ENTERPRISE_PREFIX, handler)
