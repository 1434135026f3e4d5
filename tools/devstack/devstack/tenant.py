"""One tenant: a workspace of its own and somebody who may do everything in it."""

from __future__ import annotations

import aiohttp

from devstack.cluster import Cluster
from devstack.kubeconfig import Access


class Tenant(Cluster):
    """A client for the tenant's workspace, with the tenant's own rights.

    `workspace_path` is the workspace's path (``root:kedge:tenants:<org>:<workspace>``), `cluster` its logical-cluster
    ID, `token` a bearer token of a ServiceAccount that is cluster-admin there and nothing elsewhere: what an MCP client
    or kubectl of this tenant would use.
    """

    def __init__(
        self, session: aiohttp.ClientSession, access: Access, *, workspace_path: str, cluster: str, token: str
    ) -> None:
        super().__init__(session, access)
        self.workspace_path = workspace_path
        self.cluster = cluster
        self.token = token

    @property
    def organization(self) -> str:
        return self.workspace_path.split(":")[-2]

    @property
    def workspace(self) -> str:
        return self.workspace_path.split(":")[-1]
