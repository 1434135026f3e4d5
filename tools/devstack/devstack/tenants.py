"""Tenant workspaces that tests use one after the other. kcp needs several seconds of both cores to create one."""

from __future__ import annotations

import asyncio

from devstack.devhub import DevHub
from devstack.errors import ApiError
from devstack.resources import CODE_KINDS
from devstack.tenant import Tenant


class TenantPool:
    """Workspaces with the provider enabled. Each is emptied after use and taken again."""

    def __init__(self, hub: DevHub) -> None:
        self._hub = hub
        self._free: list[Tenant] = []

    async def take(self) -> Tenant:
        if self._free:
            return self._free.pop()
        made = await self._hub.create_tenant()
        await self._hub.enable(made)
        return made

    async def give_back(self, tenant: Tenant) -> None:
        """Empty the workspace for the next use. Delete it if its provider was disabled."""
        binding = await tenant.get("apibindings", "code")
        if binding is None or "deletionTimestamp" in binding["metadata"]:
            await self._hub.delete_tenant(tenant)
            return
        resources = (*(kind.plural for kind in CODE_KINDS), "secrets")
        await asyncio.gather(*(_remove_all(tenant, resource) for resource in resources))
        self._free.append(tenant)

    async def aclose(self) -> None:
        for tenant in self._free:
            await self._hub.delete_tenant(tenant)


async def _remove_all(tenant: Tenant, resource: str) -> None:
    for found in await tenant.list(resource):
        # One of the Secrets is the tenant's own credential.
        if found.get("type") != "kubernetes.io/service-account-token":
            await _remove(tenant, resource, found["metadata"]["name"])


async def _remove(tenant: Tenant, resource: str, name: str) -> None:
    """Delete the object at once, with its finalizers. What it made on the simulated host belongs to the test that is over."""
    await tenant.delete(resource, name)
    try:
        await tenant.patch(resource, name, {"metadata": {"finalizers": None}})
    except ApiError as problem:
        if problem.status != 404:
            raise
