"""The routes: ``/healthz`` for probes and the hub, as the Go provider answers it, and ``/readyz``."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from codecommon.process.health import Readiness


def build_app(readiness: Readiness, more: Sequence[BaseRoute] = ()) -> FastAPI:
    """The ASGI application, with ``more`` routes. Everybody who reaches the hub reaches it without authentication."""
    app = FastAPI(openapi_url=None)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:  # pyright: ignore[reportUnusedFunction] - registered by the decorator
        report = await readiness.check()
        return JSONResponse(report.body(), report.http_status)

    # The route is to a response, which is an ASGI application itself. Unlike a route to a function it answers every method.
    app.router.routes.append(Route("/healthz", JSONResponse({"status": "ok"})))
    app.router.routes.extend(more)
    return app
