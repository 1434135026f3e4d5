"""The gate in front of kcp (hub-contract.md §4.5): which workspace a caller may address through the hub.

The token goes on unchanged, so kcp's own authorisation decides about everything behind the gate.
"""

from __future__ import annotations

from aiohttp import web
from yarl import URL

from devstack.devhub.answers import StatusError
from devstack.devhub.identity import bearer, is_cluster_name, service_account_cluster
from devstack.devhub.proxy import Proxy, raw_query
from devstack.devhub.tenancy import Tenancy
from devstack.kcp import Kcp
from devstack.static_users import user_of

NO_WORKSPACE = "no workspace selected"
BY_ID = "address workspaces by cluster ID"
DENIED = "cluster access denied"


class Gate:
    """Serves ``/clusters/…``, ``/api…`` and ``/apis…``."""

    def __init__(self, kcp: Kcp, tenancy: Tenancy, proxy: Proxy) -> None:
        self._kcp = kcp
        self._tenancy = tenancy
        self._proxy = proxy

    def add_to(self, app: web.Application) -> None:
        app.router.add_route("*", "/{path:(?:clusters|api|apis)(?:/.*)?}", self._handle)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = kcp_path(request.rel_url.raw_path, bearer(request), self._tenancy)
        target = URL(f"{self._kcp.url}{path}{raw_query(request)}", encoded=True)
        try:
            return await self._proxy.forward(request, target, tls=self._kcp.access.tls)
        except web.HTTPBadGateway:
            raise StatusError(502, "the control plane does not answer") from None


def kcp_path(path: str, token: str | None, tenancy: Tenancy) -> str:
    """The path at kcp for a request at the hub's `path`; raises `StatusError` if it must not go there.

    A ServiceAccount is held to its own cluster: its prefix may be given or left out, any other one ends up below its
    own and fails there. A user names a workspace of theirs by its cluster ID.
    """
    if token is None:
        raise StatusError(401, "no bearer token")
    own = service_account_cluster(token)
    if own is not None:
        return _below_own_cluster(path, own)
    user = user_of(token)
    if user is None:
        raise StatusError(401, "unknown token")
    first, _, rest = path.removeprefix("/").partition("/")
    cluster = rest.partition("/")[0]
    if first != "clusters" or not cluster:
        raise StatusError(400, NO_WORKSPACE)
    if cluster.startswith("root:"):
        if tenancy.is_organization_path(cluster):
            raise StatusError(403, BY_ID, reason="OrgWorkspaceNotDirectlyAccessible")
        raise StatusError(403, BY_ID)
    if not tenancy.is_member_of_cluster(user, cluster.partition(":")[0]):
        raise StatusError(403, DENIED)
    return path


def _below_own_cluster(path: str, own: str) -> str:
    if not is_cluster_name(own):
        raise StatusError(401, "the token's cluster is not a name")
    prefix = f"/clusters/{own}"
    rest = path.removeprefix(prefix) if path == prefix or path.startswith(f"{prefix}/") else path
    return prefix + rest
