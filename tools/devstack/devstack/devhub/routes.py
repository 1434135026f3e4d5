"""The hub's HTTP surface, as far as a provider, a portal or kubectl uses it."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from yarl import URL

from devstack.devhub.proxy import bearer, forward, kcp_path
from devstack.errors import ApiError
from devstack.tenant import Tenant

if TYPE_CHECKING:
    from devstack.devhub.hub import DevHub

MAX_HEARTBEAT_BODY = 4096
IDENTITY_HEADERS = frozenset(("x-kedge-user", "x-kedge-tenant", "x-kedge-cluster"))


class Routes:
    """Handlers only translate between HTTP and the methods of `DevHub`."""

    def __init__(self, hub: DevHub, proxy_session: aiohttp.ClientSession) -> None:
        self._hub = hub
        self._session = proxy_session

    def app(self) -> web.Application:
        app = web.Application(client_max_size=0)
        workspace = "/api/orgs/{org}/workspaces/{ws}/providers"
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/api/providers", self._catalogue)
        app.router.add_post("/api/providers/{name}/heartbeat", self._heartbeat)
        app.router.add_get(f"{workspace}/enabled", self._enabled)
        app.router.add_post(f"{workspace}/{{name}}/enable", self._enable)
        app.router.add_post(f"{workspace}/{{name}}/disable", self._disable)
        app.router.add_route("*", "/services/providers/{name:[^/]+}{rest:.*}", self._backend)
        app.router.add_route("*", "/ui/providers/{name:[^/]+}{rest:.*}", self._ui)
        app.router.add_route("*", "/{path:(?:clusters|api|apis)(?:/.*)?}", self._control_plane)
        return app

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        try:
            await self._hub.kcp.request("GET", "/readyz", timeout=5)
        except (ApiError, aiohttp.ClientError, TimeoutError):
            return web.json_response({"status": "control plane not ready"}, status=503)
        return web.json_response({"status": "ok"})

    # Providers: no authentication, as in the hub

    async def _catalogue(self, request: web.Request) -> web.Response:
        return web.json_response(self._hub.registry.catalogue())

    async def _heartbeat(self, request: web.Request) -> web.Response:
        name, version = request.match_info["name"], ""
        if request.content_length:  # a chunked body has no length and is not read
            try:
                version = json.loads(await request.content.read(MAX_HEARTBEAT_BODY)).get("version", "")
            except (ValueError, AttributeError) as problem:
                return web.Response(status=400, text=f"invalid body: {problem}")
        if not self._hub.registry.beat(name, version):
            return web.Response(status=404, text=f"provider not found: {name}")
        return web.json_response({"status": "ok"})

    # A tenant's choice of providers

    def _tenant_of(self, request: web.Request) -> Tenant:
        token = bearer(request)
        if token is None:
            raise web.HTTPUnauthorized
        asked = (request.match_info["org"], request.match_info["ws"])
        if (request.headers.get("X-Kedge-Org"), request.headers.get("X-Kedge-Workspace")) != asked:
            raise web.HTTPBadRequest(text="X-Kedge-Org and X-Kedge-Workspace must equal the path")
        tenant = self._hub.tenant_of_token(token)
        if tenant is None or (tenant.organization, tenant.workspace) != asked:
            raise web.HTTPForbidden(text="no membership of this workspace")
        return tenant

    async def _enabled(self, request: web.Request) -> web.Response:
        providers = await self._hub.enabled(self._tenant_of(request))
        return web.json_response({"bindingNamesByProvider": providers})

    async def _enable(self, request: web.Request) -> web.Response:
        tenant, name = self._tenant_of(request), request.match_info["name"]
        try:
            body = json.loads(await request.content.read() or b"{}")
            accepted = [(claim.get("group", ""), claim["resource"]) for claim in body.get("acceptedClaims", [])]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise web.HTTPBadRequest(text="the body must be {acceptedClaims: [{group, resource}]}") from None
        try:
            binding = await self._hub.enable(tenant, name, accepted=accepted)
        except KeyError:
            raise web.HTTPNotFound(text=f"provider not found: {name}") from None
        except ValueError as problem:
            raise web.HTTPBadRequest(text=str(problem)) from None
        return web.json_response({"bindingName": binding})

    async def _disable(self, request: web.Request) -> web.Response:
        await self._hub.disable(self._tenant_of(request), request.match_info["name"])
        return web.Response(status=204)

    # Proxies

    async def _backend(self, request: web.Request) -> web.StreamResponse:
        tenant = self._hub.tenant_of_token(bearer(request))
        identity: dict[str, str] = {}
        if tenant is not None:
            identity = {
                "X-Kedge-User": f"static-user-{tenant.cluster}",
                "X-Kedge-Tenant": tenant.workspace_path,
                "X-Kedge-Cluster": tenant.cluster,
            }
        return await self._to_provider(request, "backend", identity, IDENTITY_HEADERS)

    async def _ui(self, request: web.Request) -> web.StreamResponse:
        if "." not in request.match_info["rest"].rpartition("/")[2]:
            raise web.HTTPNotFound  # the portal's own pages live here, and there is no portal
        base = {"X-Kedge-Base-Path": f"/ui/providers/{request.match_info['name']}"}
        return await self._to_provider(request, "ui", base, frozenset())

    async def _to_provider(
        self, request: web.Request, endpoint: str, headers: dict[str, str], dropped: frozenset[str]
    ) -> web.StreamResponse:
        name = request.match_info["name"]
        record = self._hub.registry.get(name)
        if record is None:
            raise web.HTTPNotFound(text=f"provider not found: {name}")
        if not record.ready:
            raise web.HTTPServiceUnavailable(text=f"provider not ready: {name}")
        base = record.backend_url if endpoint == "backend" else record.ui_url
        if base is None:
            raise web.HTTPNotFound(text=f"provider has no endpoint for this route: {name}")
        target = URL(base.rstrip("/") + (request.match_info["rest"] or "/")).with_query(request.query)
        return await self._forward(request, target, headers, dropped)

    async def _control_plane(self, request: web.Request) -> web.StreamResponse:
        kcp = self._hub.kcp
        path = kcp_path(request.rel_url.raw_path, bearer(request))
        query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
        return await self._forward(request, URL(f"{kcp.url}{path}{query}", encoded=True), tls=kcp.access.tls)

    async def _forward(
        self,
        request: web.Request,
        target: URL,
        set_headers: dict[str, str] | None = None,
        dropped: frozenset[str] = frozenset(),
        tls: ssl.SSLContext | None = None,
    ) -> web.StreamResponse:
        try:
            return await forward(self._session, request, target, set_headers=set_headers, drop_headers=dropped, tls=tls)
        except aiohttp.ClientConnectorError:
            raise web.HTTPBadGateway(text="provider upstream error") from None
