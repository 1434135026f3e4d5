"""The application: ``/healthz`` as today's probes and hub know it, and ``/readyz``."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.routing import Route

from codecommon.process.health import Readiness


def build_app(readiness: Readiness) -> FastAPI:
    """The HTTP surface. Whoever reaches the hub can reach it, without authentication."""
    app = FastAPI(openapi_url=None)

    @app.get("/readyz")
    async def readyz() -> JSONResponse:  # pyright: ignore[reportUnusedFunction] - registered by the decorator
        report = await readiness.check()
        return JSONResponse(report.body(), report.http_status)

    # A response is an ASGI application too; a route to one, unlike a route to a function, answers any method.
    app.router.routes.append(Route("/healthz", JSONResponse({"status": "ok"})))
    return app
