"""A tenant: a workspace, and an identity with all rights in it."""

from __future__ import annotations

import aiohttp

from devstack.cluster import Cluster
from devstack.kubeconfig import Access
from devstack.static_users import StaticUser


class Tenant(Cluster):
    """A client for the tenant's workspace, with the tenant's own rights.

    `workspace_path` is the path ``root:kedge:tenants:<org>:<workspace>``, both UUIDs, and `cluster` is the logical-cluster ID.
    `token` is what `user` logs in with, and `mcp_token` is that of the ServiceAccount ``default-mcp``. Both are
    cluster-admin in this workspace and have no rights elsewhere. The hub identifies the user alone. On a kcp that does not
    know the static users, `token` is `mcp_token`.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        access: Access,
        *,
        workspace_path: str,
        cluster: str,
        user: StaticUser,
        token: str,
        mcp_token: str,
    ) -> None:
        super().__init__(session, access)
        self.workspace_path = workspace_path
        self.cluster = cluster
        self.user = user
        self.token = token
        self.mcp_token = mcp_token

    @property
    def organization(self) -> str:
        return self.workspace_path.split(":")[-2]

    @property
    def workspace(self) -> str:
        return self.workspace_path.split(":")[-1]

    @property
    def headers(self) -> dict[str, str]:
        """What a client of the hub sends to say who it is and which workspace it means."""
        return {
            "Authorization": f"Bearer {self.user.token}",
            "X-Kedge-Org": self.organization,
            "X-Kedge-Workspace": self.workspace,
        }
