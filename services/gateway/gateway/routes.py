"""The routes: ``/healthz`` for probes and the hub, as the Go provider answers it, and ``/readyz``."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.routing import Route

from codecommon.process.health import Readiness
from gateway.mcp_server import endpoint
from gateway.mcp_server.endpoint import McpEndpoint


def build_app(readiness: Readiness, mcp: McpEndpoint) -> FastAPI:
    """The ASGI application. Everybody who reaches the hub reaches it without authentication."""
    app = FastAPI(openapi_url=None)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:  # pyright: ignore[reportUnusedFunction] - registered by the decorator
        report = await readiness.check()
        return JSONResponse(report.body(), report.http_status)

    # The route is to a response, which is an ASGI application itself. Unlike a route to a function it answers every method.
    app.router.routes.append(Route("/healthz", JSONResponse({"status": "ok"})))
    app.router.routes.extend(Route(path, mcp) for path in endpoint.PATHS)
    return app
