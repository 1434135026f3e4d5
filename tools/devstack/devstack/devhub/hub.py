"""The development hub: what it does, as methods; `devstack.devhub.routes` serves the same over HTTP."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from devstack.devhub.catalog import follow_entry
from devstack.devhub.certificate import server_context
from devstack.devhub.provisioning import HUB_PATH, ProvisionedProvider, provision_provider
from devstack.devhub.proxy import open_proxy_session
from devstack.devhub.registry import SWEEP_INTERVAL, ProviderRecord, ProviderRegistry
from devstack.devhub.routes import Routes
from devstack.kcp import Kcp, service_account_token
from devstack.ports import LOOPBACK, free_ports
from devstack.resources import is_ready
from devstack.tenant import Tenant

SHUTDOWN_TIMEOUT = 1.0


class DevHub:
    """An async context manager that serves at `url` (https, self-signed) while it is entered.

    `path` is the workspace below which it makes all others. Hubs with different paths can share a kcp.
    """

    def __init__(
        self,
        kcp: Kcp,
        folder: Path,
        *,
        port: int | None = None,
        registry: ProviderRegistry | None = None,
        path: str = HUB_PATH,
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.url = f"https://{LOOPBACK}:{self.port}"
        self.path = path
        self.registry = registry or ProviderRegistry(providers_path=f"{path}:providers")
        self.kcp = kcp
        self._folder = folder
        self._tenants: dict[str, Tenant] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            proxy_session = await stack.enter_async_context(open_proxy_session())
            # Handlers are cancelled with their client: a proxied watch would otherwise stay open.
            runner = web.AppRunner(
                Routes(self, proxy_session).app(),
                access_log=None,
                handler_cancellation=True,
                shutdown_timeout=SHUTDOWN_TIMEOUT,
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, LOOPBACK, self.port, ssl_context=server_context(self._folder)).start()
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
        provisioned = await provision_provider(self.kcp, name, self.url, hub_path=self.path)
        self._spawn(follow_entry(self.kcp.cluster(provisioned.cluster), name, self.registry))
        return provisioned

    async def wait_for_catalogue(self, provider: ProvisionedProvider, timeout: float = 30.0) -> ProviderRecord:
        """The provider's record, once the hub has accepted the CatalogEntry that its ``init`` creates."""
        workspace = self.kcp.cluster(provider.cluster)
        await workspace.wait_for("catalogentries", provider.name, is_ready, timeout)
        record = self.registry.get(provider.name)
        assert record is not None, "the hub has marked the entry, so it knows the provider"
        return record

    # Tenants

    async def create_tenant(self, *, organization: str = "dev", workspace: str | None = None) -> Tenant:
        """Makes a workspace and its user; nothing is enabled in it yet. Safe to call many times at once."""
        path = f"{self.path}:tenants:{organization}:{workspace or f'ws-{uuid.uuid4().hex[:10]}'}"
        cluster = await self.kcp.create_workspace(path)
        administrator = self.kcp.cluster(cluster)
        token = await service_account_token(administrator, "member", admin_binding="kedge:member")
        access = replace(administrator.access, token=token)
        tenant = Tenant(self.kcp.session, access, workspace_path=path, cluster=cluster, token=token)
        self._tenants[token] = tenant
        return tenant

    def tenant_of_token(self, token: str | None) -> Tenant | None:
        """Whose bearer token this is."""
        return self._tenants.get(token or "")

    async def delete_tenant(self, tenant: Tenant) -> None:
        """Asks for the deletion of the tenant's workspace; does not wait for it."""
        self._tenants.pop(tenant.token, None)
        await self.kcp.delete_workspace(tenant.workspace_path)

    async def enable(
        self, tenant: Tenant, provider: str = "code", *, accepted: Iterable[tuple[str, str]] = (("", "secrets"),)
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

    async def enabled(self, tenant: Tenant) -> dict[str, str]:
        """Provider name to binding name, for every Bound binding of a provider's export."""
        found: dict[str, str] = {}
        for binding in await self.kcp.cluster(tenant.cluster).list("apibindings"):
            path = binding["spec"]["reference"]["export"].get("path", "")
            if binding.get("status", {}).get("phase") == "Bound" and path.startswith(f"{self.path}:providers:"):
                found[path.rpartition(":")[2]] = binding["metadata"]["name"]
        return found

    async def disable(self, tenant: Tenant, provider: str = "code") -> None:
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
