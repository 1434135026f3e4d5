"""The host page: every path below ``/ui`` that is no file of a provider (hub-contract.md §6).

It loads a provider's element as the hub's portal does. Its look and its own pages are not the hub's.
"""

from __future__ import annotations

from importlib.resources import files

from aiohttp import web

# On the portal's own answers alone; a provider's files go without.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; frame-src 'self'; img-src 'self' data:; script-src 'self' 'unsafe-inline'; "
        "style-src 'self' 'unsafe-inline'; connect-src 'self'; font-src 'self' data:"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
}
ASSETS = {"portal.js": "text/javascript", "portal.css": "text/css", "theme.css": "text/css"}


class PageRoutes:
    def __init__(self) -> None:
        folder = files("devstack.devhub").joinpath("portal")
        self._index = folder.joinpath("index.html").read_text()
        self._assets = {name: folder.joinpath(name).read_text() for name in ASSETS}

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/", _to_page)
        app.router.add_get("/ui/assets/{name}", self._asset)
        app.router.add_get("/ui{rest:(?:/.*)?}", self.page)

    async def page(self, request: web.Request) -> web.Response:
        return _answer(self._index, "text/html")

    async def _asset(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._assets:
            raise web.HTTPNotFound
        return _answer(self._assets[name], ASSETS[name])


def _answer(text: str, content_type: str) -> web.Response:
    return web.Response(text=text, content_type=content_type, headers=SECURITY_HEADERS | {"Cache-Control": "no-cache"})


async def _to_page(request: web.Request) -> web.Response:
    raise web.HTTPFound("/ui/")
