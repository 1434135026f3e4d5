"""The GraphQL endpoint of a workspace (hub-contract.md §6.5), in front of the real gateway.

There is no membership gate here, as in the hub: kcp decides with the caller's own token. There is no playground either.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from yarl import URL

from devstack.devhub.identity import bearer
from devstack.devhub.proxy import Proxy, escaped_path, raw_query

PREFIX = "/graphql/"


class GraphqlRoutes:
    """`gateway` tells the gateway's URL, and None while there is none."""

    def __init__(self, gateway: Callable[[], str | None], proxy: Proxy) -> None:
        self._gateway = gateway
        self._proxy = proxy

    def add_to(self, app: web.Application) -> None:
        app.router.add_route("*", f"{PREFIX}{{cluster:[^/]+}}", self._handle)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        token = bearer(request) or request.query.get("token")
        if token is None:
            return web.Response(status=401, text="no token")
        gateway = self._gateway()
        if gateway is None:
            return web.Response(status=404, text="this development hub runs without GraphQL")
        path = f"/api/clusters/{escaped_path(request.match_info['cluster'])}/graphql"
        target = URL(f"{gateway}{path}{raw_query(request)}", encoded=True)
        return await self._proxy.forward(request, target, set_headers={"Authorization": f"Bearer {token}"})
