"""The hub's HTTP surface, put together in the order in which the hub looks at a path (hub-contract.md §3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from devstack.devhub.aggregate import Aggregate
from devstack.devhub.gate import Gate
from devstack.devhub.graphql import GraphqlRoutes
from devstack.devhub.page import PageRoutes
from devstack.devhub.providers import ProviderRoutes
from devstack.devhub.proxy import Proxy, clean_path, decoded_path, escaped_path, raw_query
from devstack.devhub.rest import RestRoutes
from devstack.errors import ApiError

if TYPE_CHECKING:
    from devstack.devhub.hub import DevHub

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def hub_app(
    hub: DevHub, proxy_session: aiohttp.ClientSession, federation_session: aiohttp.ClientSession
) -> web.Application:
    proxy, page = Proxy(proxy_session), PageRoutes()
    # Without a limit: a proxy that cuts bodies would hide what the provider does with them.
    app = web.Application(client_max_size=0, middlewares=[redirect_to_clean_path])
    _add_health(app, hub)
    providers = ProviderRoutes(hub.registry, hub.tenancy, proxy, cluster_of=hub.organization_cluster, page=page.page)
    aggregate = Aggregate(hub.registry, federation_session)
    graphql = GraphqlRoutes(lambda: hub.graphql_url, proxy)
    for part in (providers, aggregate, graphql, RestRoutes(hub), Gate(hub.kcp, hub.tenancy, proxy), page):
        part.add_to(app)
    # A known path with another method is not found, as in the hub, which does not say 405.
    app.router.add_route("*", "/{path:.*}", _not_found)
    return app


async def _not_found(request: web.Request) -> web.Response:
    return web.Response(status=404, text="404 page not found")


@web.middleware
async def redirect_to_clean_path(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What the hub's router does with ``//`` and dots in a path, however they are escaped."""
    path = decoded_path(request)
    if (wanted := clean_path(path)) != path:
        raise web.HTTPMovedPermanently(escaped_path(wanted) + raw_query(request))
    return await handler(request)


def _add_health(app: web.Application, hub: DevHub) -> None:
    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "oidc": False})

    async def readyz(request: web.Request) -> web.Response:
        try:
            await hub.kcp.request("GET", "/readyz", timeout=5)
        except (ApiError, aiohttp.ClientError, TimeoutError):
            return web.json_response({"status": "control plane not ready"}, status=503)
        return web.json_response({"status": "ok"})

    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
