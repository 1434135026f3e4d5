"""Workspaces for one test after the other: making a new one takes kcp some seconds of both cores."""

from __future__ import annotations

import asyncio

from devstack.devhub import DevHub
from devstack.errors import ApiError
from devstack.tenant import Tenant

_KINDS = ("collaborators", "deploykeys", "repositories", "connections")


class TenantPool:
    """Workspaces with the provider enabled, emptied and used again."""

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
        """Nothing of its last use is left in it; one whose provider was disabled is deleted."""
        binding = await tenant.get("apibindings", "code")
        if binding is None or "deletionTimestamp" in binding["metadata"]:
            await self._hub.delete_tenant(tenant)
            return
        await asyncio.gather(*(_remove_all(tenant, resource) for resource in (*_KINDS, "secrets")))
        self._free.append(tenant)

    async def aclose(self) -> None:
        for tenant in self._free:
            await self._hub.delete_tenant(tenant)


async def _remove_all(tenant: Tenant, resource: str) -> None:
    for found in await tenant.list(resource):
        # The tenant's own credential is one of them.
        if found.get("type") != "kubernetes.io/service-account-token":
            await _remove(tenant, resource, found["metadata"]["name"])


async def _remove(tenant: Tenant, resource: str, name: str) -> None:
    """At once, whatever still holds it: what is on the simulated host belongs to the test that is over."""
    await tenant.delete(resource, name)
    try:
        await tenant.patch(resource, name, {"metadata": {"finalizers": None}})
    except ApiError as problem:
        if problem.status != 404:
            raise
