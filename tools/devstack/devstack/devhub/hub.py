"""The development hub: what it does, as methods; `devstack.devhub.routes` serves the same over HTTP."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import aiohttp
from aiohttp import web

from devstack.devhub.catalog import follow_entry
from devstack.devhub.certificate import server_context
from devstack.devhub.federation import open_federation_session
from devstack.devhub.provisioning import HUB_PATH, ProvisionedProvider, provision_provider
from devstack.devhub.proxy import open_proxy_session
from devstack.devhub.registry import SWEEP_INTERVAL, ProviderRecord, ProviderRegistry
from devstack.devhub.routes import hub_app
from devstack.devhub.tenancy import Organization, Tenancy, Workspace
from devstack.errors import StackError
from devstack.kcp import Kcp, cluster_admin_binding, role, role_binding, service_account_token
from devstack.ports import LOOPBACK, free_ports
from devstack.resources import is_ready
from devstack.static_users import StaticUser, static_users
from devstack.tenant import Tenant

SHUTDOWN_TIMEOUT = 1.0
ENTRY_INTERVAL = 0.05
MCP_SERVER = "default"
"""The MCPServer that the hub makes in every workspace."""


class InWorkspace(Protocol):
    """A tenant or a workspace: whatever says in which logical cluster it is."""

    @property
    def cluster(self) -> str: ...


class DevHub:
    """An async context manager that serves at `url` (https, self-signed) and at `plain_url` (http) while it is entered.

    `plain_url` is for clients that accept no self-signed certificate, as most assistants.

    `path` is the workspace below which it makes all others. Hubs with different paths can share a kcp. `graphql_url` is the
    address of a `devstack.graphql.GraphqlGateway`, for who wants ``/graphql/<cluster ID>``.

    In a container, `listen` is the address to listen on in place of loopback, and `internal_url` is `url` as the provider's
    container reaches it.
    """

    def __init__(
        self,
        kcp: Kcp,
        folder: Path,
        *,
        port: int | None = None,
        plain_port: int | None = None,
        listen: str = LOOPBACK,
        internal_url: str | None = None,
        registry: ProviderRegistry | None = None,
        path: str = HUB_PATH,
    ) -> None:
        free, free_plain = free_ports(2)
        self.port = port or free
        self._plain_port = plain_port or free_plain
        self._listen = listen
        self.url = f"https://{LOOPBACK}:{self.port}"
        self.plain_url = f"http://{LOOPBACK}:{self._plain_port}"
        self._internal_url = internal_url or self.url
        self.path = path
        self.registry = registry or ProviderRegistry(providers_path=f"{path}:providers")
        self.tenancy = Tenancy(path)
        self.graphql_url: str | None = None
        self.kcp = kcp
        self._folder = folder
        self._free_users = deque(static_users())
        self._mcp_tokens: dict[str, str] = {}
        self._first_login = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            proxy_session = await stack.enter_async_context(open_proxy_session())
            federation_session = await stack.enter_async_context(open_federation_session())
            # Handlers are cancelled with their client: a proxied watch would otherwise stay open.
            runner = web.AppRunner(
                hub_app(self, proxy_session, federation_session),
                access_log=None,
                handler_cancellation=True,
                shutdown_timeout=SHUTDOWN_TIMEOUT,
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, self._listen, self.port, ssl_context=server_context(self._folder)).start()
            await web.TCPSite(runner, self._listen, self._plain_port).start()
            stack.push_async_callback(self._cancel_tasks)
            self._spawn(self._sweep())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    # Providers

    async def provision_provider(self, name: str = "code") -> ProvisionedProvider:
        """Makes workspace and kubeconfig of a provider and follows its CatalogEntry from now on."""
        provisioned = await provision_provider(self.kcp, name, self._internal_url, hub_path=self.path)
        self._spawn(follow_entry(self.kcp.cluster(provisioned.cluster), name, self.registry))
        return provisioned

    async def wait_for_catalogue(self, provider: ProvisionedProvider, timeout: float = 30.0) -> ProviderRecord:
        """The provider's record, once the hub has accepted the CatalogEntry that its ``init`` creates."""
        workspace = self.kcp.cluster(provider.cluster)
        await workspace.wait_for("catalogentries", provider.name, is_ready, timeout)
        async with asyncio.timeout(timeout):
            # An earlier hub may have marked the entry, which this one has yet to read.
            while (record := self.registry.get(provider.name)) is None:
                await asyncio.sleep(ENTRY_INTERVAL)
        return record

    # Tenants

    async def create_tenant(
        self,
        *,
        organization: str | Organization = "dev",
        workspace: str | None = None,
        user: StaticUser | None = None,
    ) -> Tenant:
        """Makes a workspace with its user and its MCP server; nothing is enabled in it yet. Safe to call many times at once.

        `organization` and `workspace` are display names; the workspaces at kcp are named by UUIDs. The user is a new one
        unless `user` names one. Raises `StackError` when no user is left.
        """
        user = user or self._free_user()
        if isinstance(organization, str):
            organization = self.tenancy.organization(organization)
        identifier = str(uuid.uuid5(uuid.UUID(organization.uuid), workspace) if workspace else uuid.uuid4())
        path = f"{organization.path}:{identifier}"
        cluster = await self.kcp.create_workspace(path)
        administrator = self.kcp.cluster(cluster)
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user.kcp_name}
        await administrator.apply(cluster_admin_binding("kedge:member", subject))
        mcp_token = await service_account_token(administrator, f"{MCP_SERVER}-mcp", admin_binding=f"{MCP_SERVER}-mcp")
        self._mcp_tokens[cluster] = mcp_token
        made = self.tenancy.add_workspace(organization, workspace or identifier, identifier=identifier, cluster=cluster)
        self.tenancy.join(user, organization, made)
        token = user.token if self.kcp.knows_static_users else mcp_token
        access = replace(administrator.access, token=token)
        return Tenant(
            self.kcp.session, access, workspace_path=path, cluster=cluster, user=user, token=token, mcp_token=mcp_token
        )

    async def add_member(self, tenant: Tenant, rules: Sequence[Mapping[str, Sequence[str]]]) -> StaticUser:
        """A new user who is a member of the tenant's workspace. At kcp they may do there what the RBAC `rules` say, no more.

        Raises `StackError` when no user is left.
        """
        user = self._free_user()
        workspace = self.tenancy.workspace(tenant.organization, tenant.workspace)
        assert workspace is not None, "the tenant is there"
        administrator = self.kcp.cluster(tenant.cluster)
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user.kcp_name}
        await administrator.apply(role(user.name, rules))
        await administrator.apply(role_binding(user.name, user.name, subject))
        self.tenancy.join(user, workspace.organization, workspace)
        return user

    def _free_user(self) -> StaticUser:
        try:
            return self._free_users.popleft()
        except IndexError:
            raise StackError("all static users have a workspace; delete a tenant first") from None

    async def delete_tenant(self, tenant: Tenant) -> None:
        """Asks for the deletion of the tenant's workspace; does not wait for it."""
        self.tenancy.remove_workspace(tenant.organization, tenant.workspace)
        self._mcp_tokens.pop(tenant.cluster, None)
        if next(self.tenancy.workspaces_of(tenant.user), None) is None:
            self._free_users.append(tenant.user)
        await self.kcp.delete_workspace(tenant.workspace_path)

    async def first_workspace(self, user: StaticUser) -> Workspace:
        """The user's first workspace. One who has none gets one in the personal organisation."""
        async with self._first_login:
            found = next(self.tenancy.workspaces_of(user), None)
            if found is None:
                personal = self.tenancy.personal(user)
                tenant = await self.create_tenant(organization=personal, workspace="default", user=user)
                found = self.tenancy.workspace(personal.uuid, tenant.workspace)
                assert found is not None
            return found

    async def organization_cluster(self, organization: Organization) -> str | None:
        """The logical-cluster ID of the organisation's own workspace, which is made if need be; None if kcp fails."""
        try:
            return await self.kcp.create_workspace(organization.path)
        except (StackError, aiohttp.ClientError, TimeoutError):
            return None

    def mcp_token(self, workspace: InWorkspace, name: str = MCP_SERVER) -> str | None:
        """The token of the MCPServer's ServiceAccount; None if there is no such server."""
        return self._mcp_tokens.get(workspace.cluster) if name == MCP_SERVER else None

    def mcp_url(self, cluster: str, name: str = MCP_SERVER, *, plain: bool = False) -> str:
        """Where an MCP client reaches the tools of all providers. `plain`: without TLS."""
        base = self.plain_url if plain else self.url
        return f"{base}/services/mcpserver/{cluster}/apis/kedge.faros.sh/v1alpha1/mcpservers/{name}/mcp"

    async def enable(
        self, tenant: InWorkspace, provider: str = "code", *, accepted: Iterable[tuple[str, str]] = (("", "secrets"),)
    ) -> str:
        """Binds the provider's export in the tenant's workspace; returns the binding's name (hub-contract.md §4.3).

        `accepted` holds (group, resource) of the claims that the user ticked; the others are sent as Rejected.
        Raises KeyError for a provider that is not in the catalogue, ValueError for one without an export.
        """
        record = self.registry.get(provider)
        if record is None:
            raise KeyError(provider)
        if record.export_name is None:
            raise ValueError(f"{provider} has no APIExport")
        ticked = set(accepted)
        claims = [
            {key: value for key, value in claim.items() if key != "tenantScoped"}
            | {"state": "Accepted" if (claim.get("group", ""), claim["resource"]) in ticked else "Rejected"}
            for claim in record.claims
        ]
        return await self.kcp.bind(tenant.cluster, record.export_path, record.export_name, claims, name=provider)

    async def enabled(self, tenant: InWorkspace) -> dict[str, str]:
        """Provider name to binding name, for every Bound binding of a provider's export."""
        found: dict[str, str] = {}
        for binding in await self.kcp.cluster(tenant.cluster).list("apibindings"):
            path = binding["spec"]["reference"]["export"].get("path", "")
            if binding.get("status", {}).get("phase") == "Bound" and path.startswith(f"{self.path}:providers:"):
                found[path.rpartition(":")[2]] = binding["metadata"]["name"]
        return found

    async def disable(self, tenant: InWorkspace, provider: str = "code") -> None:
        """Deletes the binding; it goes once the provider's finalizers have left the tenant's objects."""
        await self.kcp.unbind(tenant.cluster, name=provider)

    # Background work

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self.registry.sweep()

    async def _cancel_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
