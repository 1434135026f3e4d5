"""The simulator as an HTTP server."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web

from devstack.githubsim import control_api, git_http, oauth_pages
from devstack.githubsim.areas import OPERATIONS
from devstack.githubsim.calls import Operation
from devstack.githubsim.pipeline import ENTERPRISE_PREFIX, UNSERVED, serve
from devstack.githubsim.simulation import Simulation
from devstack.githubsim.world import Clock, World

_BY_NAME, _BY_ID = "/repos/{owner}/{repo}", r"/repositories/{repository_id:\d+}"
# Requests that a fault keeps waiting are cut when the server stops; nothing is worth waiting for.
_SHUTDOWN_TIMEOUT = 0.1
# A tree or a push of many files comes in one request.
_LONGEST_REQUEST = 128 * 1024 * 1024


class GithubSim:
    """A running simulator. `url` is its base; the API is there and below `/api/v3`.

    `downloads_url` is the other host, which serves archives and logs.
    """

    def __init__(self, simulation: Simulation, url: str) -> None:
        self.simulation = simulation
        self.url = url
        self.downloads_url = simulation.downloads.base

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
        other = web.AppRunner(simulation.downloads.application(), access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT)
        scheme = "https" if tls else "http"
        try:
            await runner.setup()
            await other.setup()
            await web.TCPSite(runner, host, port, ssl_context=tls).start()
            await web.TCPSite(other, host, 0, ssl_context=tls).start()
            simulation.downloads.base = f"{scheme}://{host}:{other.addresses[0][1]}"
            yield cls(simulation, f"{scheme}://{host}:{runner.addresses[0][1]}")
        finally:
            await runner.cleanup()
            await other.cleanup()
            simulation.world.git.close()


def application(simulation: Simulation) -> web.Application:
    """The API at both of its bases, and beside it the web flow of OAuth and the control API."""
    app = web.Application(client_max_size=_LONGEST_REQUEST)
    control_api.add_routes(app, simulation)
    oauth_pages.add_routes(app, simulation)
    git_http.add_routes(app, simulation)
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
