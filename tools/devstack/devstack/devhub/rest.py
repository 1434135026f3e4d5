"""The REST calls of the portal: login, organisations, workspaces, and the choice of providers (hub-contract.md §4.2, §4.4)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from devstack.devhub.answers import StatusError
from devstack.devhub.identity import bearer
from devstack.devhub.tenancy import Membership, Organization, Workspace
from devstack.errors import StackError
from devstack.kubeconfig import kubeconfig
from devstack.static_users import StaticUser, user_of

if TYPE_CHECKING:
    from devstack.devhub.hub import DevHub

WORKSPACES = "/api/orgs/{org}/workspaces"
PROVIDERS = WORKSPACES + "/{ws}/providers"
MCP_SERVERS = WORKSPACES + "/{ws}/mcpservers"


class RestRoutes:
    """Handlers only translate between HTTP and the methods of `DevHub`."""

    def __init__(self, hub: DevHub) -> None:
        self._hub = hub

    def add_to(self, app: web.Application) -> None:
        app.router.add_post("/auth/token-login", self._login)
        app.router.add_get("/api/orgs", self._organizations)
        app.router.add_get(WORKSPACES, self._workspaces)
        app.router.add_get(f"{PROVIDERS}/enabled", self._enabled)
        app.router.add_post(f"{PROVIDERS}/{{name}}/enable", self._enable)
        app.router.add_post(f"{PROVIDERS}/{{name}}/disable", self._disable)
        app.router.add_get(f"{MCP_SERVERS}/{{name}}/connect", self._connect)

    async def _login(self, request: web.Request) -> web.Response:
        user = user_of(bearer(request))
        if user is None:
            raise StatusError(401, "unknown token")
        try:
            workspace = await self._hub.first_workspace(user)
        except (StackError, aiohttp.ClientError, TimeoutError) as problem:
            raise StatusError(500, f"no workspace for the user: {problem}") from problem
        text = kubeconfig(f"{self._hub.url}/clusters/{workspace.cluster}", user.token)
        encoded = base64.b64encode(text.encode()).decode()
        return web.json_response({"kubeconfig": encoded, "email": user.email, "userId": user.name})

    # Organisations and workspaces

    async def _organizations(self, request: web.Request) -> web.Response:
        found = self._hub.tenancy.organizations_of(_user(request))
        items = [{"uuid": org.uuid, "displayName": org.display_name, "personal": org.personal} for org in found]
        return web.json_response({"items": items})

    async def _workspaces(self, request: web.Request) -> web.Response:
        user, asked = _user(request), request.match_info["org"]
        _same_as_path(request, "X-Kedge-Org", asked)
        if not self._hub.tenancy.is_in_organization(user, asked):
            raise StatusError(403, "no membership of this organization")
        found = [it for it in self._hub.tenancy.workspaces_of(user) if it.organization.uuid == asked]
        return web.json_response({"items": [_described(workspace) for workspace in found]})

    # A workspace's providers

    def _workspace(self, request: web.Request) -> Workspace:
        """The workspace of the path. A membership of the whole organisation is not enough here, unlike at the proxies."""
        user, org, ws = _user(request), request.match_info["org"], request.match_info["ws"]
        _same_as_path(request, "X-Kedge-Org", org)
        _same_as_path(request, "X-Kedge-Workspace", ws)
        workspace = self._hub.tenancy.workspace(org, ws)
        if workspace is None or Membership(org, ws) not in self._hub.tenancy.memberships(user):
            raise StatusError(403, "no membership of this workspace")
        return workspace

    async def _enabled(self, request: web.Request) -> web.Response:
        return web.json_response({"bindingNamesByProvider": await self._hub.enabled(self._workspace(request))})

    async def _enable(self, request: web.Request) -> web.Response:
        workspace, name = self._workspace(request), request.match_info["name"]
        record = self._hub.registry.get(name)
        if record is None:
            raise StatusError(404, f"provider not found: {name}")
        if record.export_name is None:
            raise StatusError(400, f"{name} has no APIExport")
        try:
            body = json.loads(await request.content.read() or b"{}")
            accepted = [(claim.get("group", ""), claim["resource"]) for claim in body.get("acceptedClaims") or ()]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise StatusError(400, "the body must be {acceptedClaims: [{group, resource}]}") from None
        missing = set(record.dependencies) - (await self._hub.enabled(workspace)).keys() if record.dependencies else ()
        if missing:
            raise StatusError(409, f"enable these first: {', '.join(sorted(missing))}")
        try:
            binding = await self._hub.enable(workspace, name, accepted=accepted)
        except (StackError, aiohttp.ClientError, TimeoutError) as problem:
            raise StatusError(500, f"binding {name} failed: {problem}") from problem
        return web.json_response({"bindingName": binding})

    async def _disable(self, request: web.Request) -> web.Response:
        await self._hub.disable(self._workspace(request), request.match_info["name"])
        return web.Response(status=204)

    # The workspace's MCP server

    async def _connect(self, request: web.Request) -> web.Response:
        workspace, name = self._workspace(request), request.match_info["name"]
        token = self._hub.mcp_token(workspace, name)
        if token is None:
            raise StatusError(404, f"MCPServer not found: {name}")
        return web.json_response(
            {
                "endpointURL": self._hub.mcp_url(workspace.cluster, name),
                "serverName": "kedge",
                "token": token,
                "tokenReady": True,
            }
        )


def _user(request: web.Request) -> StaticUser:
    user = user_of(bearer(request))
    if user is None:
        # Without OIDC, the hub takes an unknown token for none.
        raise StatusError(401, "no bearer token of a user")
    return user


def _same_as_path(request: web.Request, header: str, segment: str) -> None:
    value = request.headers.get(header)
    if not value:
        raise StatusError(400, f"{header} is missing")
    if value != segment:
        raise StatusError(400, f"{header} must equal the path")


def _described(workspace: Workspace) -> dict[str, str]:
    organization: Organization = workspace.organization
    return {
        "uuid": workspace.uuid,
        "orgUUID": organization.uuid,
        "displayName": workspace.display_name,
        "clusterName": workspace.cluster,
    }
