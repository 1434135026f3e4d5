"""An instance of the provider beside the one that all tests of a run share: with settings or a program of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from devstack.devhub import DevHub
from devstack.kcp import SECRETS_CLAIM, Kcp
from devstack.nats import NatsServer
from devstack.processes import Process
from devstack.provider import EXPORT, provision_own, run_init, wait_serving
from devstack.tenant import Tenant


@dataclass(frozen=True)
class OwnInstance:
    """`process` serves; `tenant` is bound to its API, and no other instance acts there."""

    process: Process
    tenant: Tenant


@asynccontextmanager
async def own_instance(
    kcp: Kcp,
    devhub: DevHub,
    folder: Path,
    inherited: Mapping[str, str],
    settings: Mapping[str, str],
    *,
    program: Sequence[str | Path] = (),
) -> AsyncIterator[OwnInstance]:
    """`settings` come on top of those that every instance needs; `program` is run instead of ``code-provider serve``."""
    installation = await provision_own(kcp, folder, inherited)
    tenant = await devhub.create_tenant()
    await kcp.bind(tenant.cluster, installation.provisioned.workspace_path, EXPORT, [SECRETS_CLAIM])
    async with NatsServer(folder / "nats") as nats_server:
        await run_init(installation, nats_server)
        process = installation.command("serve", {**nats_server.environment, **settings}, program=program)
        async with process:
            await wait_serving(process, installation.url, kcp.session)
            yield OwnInstance(process, tenant)
    await devhub.delete_tenant(tenant)
