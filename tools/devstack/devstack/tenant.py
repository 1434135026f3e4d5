"""A tenant: a workspace, and an identity with all rights in it."""

from __future__ import annotations

import aiohttp

from devstack.cluster import Cluster
from devstack.kubeconfig import Access


class Tenant(Cluster):
    """A client for the tenant's workspace, with the tenant's own rights.

    `workspace_path` is the path ``root:kedge:tenants:<org>:<workspace>``, and `cluster` is the logical-cluster ID. `token` is the
    bearer token of a ServiceAccount that is cluster-admin in this workspace and has no rights elsewhere. kubectl or an MCP
    client of the tenant would use it.
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
