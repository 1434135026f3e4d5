"""The HTTP surface: the answers to probes, the routes that it is given, and the portal on all other paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Mount, Route

from codecommon.process.health import Readiness
from codecommon.process.liveness import Liveness
from gateway.assets import Assets
from gateway.bounded import Bounded
from gateway.caller_limits import CallerLimits, PerCaller
from gateway.http_settings import HttpSettings
from gateway.mcp_server.endpoint import PATHS as MCP_PATHS
from gateway.observed import Observed
from gateway.openapi import body, documented

_PROBES: Final = ("/healthz", "/livez", "/readyz")
_READINESS: Final = body(ready={"type": "boolean"}, phase={"type": "string"}, pings={"type": "object"})


def build_app(
    readiness: Readiness,
    *,
    settings: HttpSettings | None = None,
    liveness: Liveness | None = None,
    callers: CallerLimits | None = None,
    routes: Sequence[BaseRoute] = (),
) -> FastAPI:
    """The ASGI application. Everybody who reaches the hub reaches it without authentication.

    ``routes`` come before the portal, which takes every path. Requests to them count for ``callers``, except at ``/mcp``: the
    endpoint there decides what counts, and asks ``callers`` itself.
    """
    settings = settings or HttpSettings()
    callers = callers or CallerLimits(settings.caller_rate)
    loop = liveness or Liveness()

    async def livez(_: Request) -> JSONResponse:
        return JSONResponse({"alive": True, "loopLagSeconds": round(loop.lag, 3)})

    async def readyz(_: Request) -> JSONResponse:
        report = await readiness.check()
        return JSONResponse(report.body(), report.http_status)

    app = FastAPI(
        openapi_url=None,
        routes=[
            # A route to a response, which is an ASGI application itself, answers every method, as the Go provider does.
            Route("/healthz", JSONResponse({"status": "ok"})),
            *documented("/livez", livez, {200: body(alive={"type": "boolean"}, loopLagSeconds={"type": "number"})}),
            *documented("/readyz", readyz, dict.fromkeys((200, 503), _READINESS)),
            *routes,
            Mount("/", Assets(settings.portal_folder)),
        ],
    )
    # What is added last is outermost.
    app.add_middleware(PerCaller, limits=callers, routes=routes, without=MCP_PATHS)
    app.add_middleware(Bounded, settings=settings, large=MCP_PATHS)
    paths = {*_PROBES, *(route.path for route in routes if isinstance(route, Route))}
    app.add_middleware(Observed, paths=paths, quiet=_PROBES)
    return app
