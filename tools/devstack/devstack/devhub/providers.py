"""The two reverse proxies in front of providers (hub-contract.md §3.2, §3.3) and the heartbeat (§2)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from devstack.devhub.identity import bearer
from devstack.devhub.proxy import Proxy, below, decoded_path
from devstack.devhub.registry import ProviderRecord, ProviderRegistry
from devstack.devhub.tenancy import Organization, Tenancy
from devstack.static_users import StaticUser, user_of

BACKEND, UI = "/services/providers/", "/ui/providers/"
IDENTITY_HEADERS = frozenset(("x-kedge-user", "x-kedge-tenant", "x-kedge-cluster"))
MAX_HEARTBEAT_BODY = 4096

ClusterOf = Callable[[Organization], Awaitable[str | None]]
"""The logical-cluster ID of an organisation's own workspace, None if it cannot be found out."""

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ProviderRoutes:
    """`page` answers what below the UI prefix is no asset: the portal's own routes."""

    def __init__(
        self, registry: ProviderRegistry, tenancy: Tenancy, proxy: Proxy, *, cluster_of: ClusterOf, page: Page
    ) -> None:
        self._registry = registry
        self._tenancy = tenancy
        self._proxy = proxy
        self._cluster_of = cluster_of
        self._page = page

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/api/providers", self._catalogue)
        app.router.add_post("/api/providers/{name}/heartbeat", self._heartbeat)
        app.router.add_route("*", f"{BACKEND}{{rest:(?s:.*)}}", self._backend)
        app.router.add_route("*", f"{UI}{{rest:(?s:.*)}}", self._ui)

    # Without authentication, as in the hub

    async def _catalogue(self, request: web.Request) -> web.Response:
        return web.json_response(self._registry.catalogue())

    async def _heartbeat(self, request: web.Request) -> web.Response:
        name, version = request.match_info["name"], ""
        if request.content_length:  # a chunked body has no length and is not read
            try:
                version = json.loads(await request.content.read(MAX_HEARTBEAT_BODY)).get("version", "")
            except (ValueError, AttributeError) as problem:
                return web.Response(status=400, text=f"invalid body: {problem}")
        if not self._registry.beat(name, version):
            return web.Response(status=404, text=f"provider not found: {name}")
        return web.json_response({"status": "ok"})

    # Proxies

    async def _backend(self, request: web.Request) -> web.StreamResponse:
        name, rest = split(decoded_path(request), BACKEND)
        record = self._ready_provider(name)
        target = below(_endpoint(record, record.backend_url), rest, request)
        identity = await self._identity(request)
        return await self._proxy.forward(request, target, set_headers=identity, drop_headers=IDENTITY_HEADERS)

    async def _ui(self, request: web.Request) -> web.StreamResponse:
        name, rest = split(decoded_path(request), UI)
        if not is_asset(rest):
            return await self._page(request)
        record = self._ready_provider(name)
        target = below(_endpoint(record, record.ui_url), rest, request)
        return await self._proxy.forward(request, target, set_headers={"X-Kedge-Base-Path": f"{UI}{name}"})

    def _ready_provider(self, name: str) -> ProviderRecord:
        if not name:
            raise web.HTTPNotFound(text="404 page not found")
        record = self._registry.get(name)
        if record is None:
            raise web.HTTPNotFound(text=f"provider not found: {name}")
        if not record.ready:
            raise web.HTTPServiceUnavailable(text=f"provider not ready: {name}")
        return record

    async def _identity(self, request: web.Request) -> dict[str, str]:
        """The identity headers. Whoever is not a user of the hub has none, and the request goes on all the same."""
        user = user_of(bearer(request))
        if user is None:
            return {}
        tenant, cluster = await self._tenant(user, request)
        headers = {"X-Kedge-User": user.name, "X-Kedge-Tenant": tenant, "X-Kedge-Cluster": cluster}
        return {key: value for key, value in headers.items() if value}

    async def _tenant(self, user: StaticUser, request: web.Request) -> tuple[str | None, str | None]:
        """The path of the workspace that the request is about, and its logical-cluster ID.

        That is the workspace of the user's personal organisation unless the request names another one that they may use.
        """
        wanted = (request.headers.get("X-Kedge-Org"), request.headers.get("X-Kedge-Workspace"))
        path = self._tenancy.requested_path(user, *wanted)
        if path is None:
            personal = self._tenancy.personal(user)
            cluster = await self._cluster_of(personal)
            # Without it, the hub has no personal organisation of the user either.
            return (personal.path, cluster) if cluster else (None, None)
        organization = self._tenancy.organization_at(path)
        if organization is not None:
            return path, await self._cluster_of(organization)
        return path, self._tenancy.cluster_of(path)


def split(path: str, prefix: str) -> tuple[str, str]:
    """``/<prefix>/<name><rest>`` as name and rest; the rest of a bare name is ``/``."""
    name, slash, rest = path.removeprefix(prefix).partition("/")
    return name, slash + rest or "/"


def is_asset(rest: str) -> bool:
    """Whether the UI proxy takes the path for a file of the provider: its last segment has a dot."""
    return "." in rest.rpartition("/")[2]


def _endpoint(record: ProviderRecord, url: str | None) -> str:
    if url is None:
        raise web.HTTPNotFound(text=f"provider has no endpoint for this route: {record.name}")
    return url
