"""The portal's place: every path below ``/ui`` that is no file of a provider."""

from __future__ import annotations

from aiohttp import web


class PageRoutes:
    """There is no page yet."""

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/ui{rest:.*}", self.page)

    async def page(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPNotFound
