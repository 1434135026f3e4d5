"""What every bench stands on: a real kcp, nats-server and the GitHub simulator, and a table to print into."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from devstack.devhub import DevHub
from devstack.githubsim.control import SimControl
from devstack.kcp import Kcp
from devstack.nats import NatsServer
from devstack.processes import Process
from devstack.provider import ProviderInstallation, install_provider, run_init, wait_serving
from devstack.scenario import Scenario
from devstack.settings import Settings
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant


@dataclass(frozen=True)
class Bed:
    """Everything but the provider's services."""

    kcp: Kcp
    nats: NatsServer
    simulator: SimulatorProcess
    scenario: Scenario
    hub: DevHub
    provider: ProviderInstallation

    @asynccontextmanager
    async def serving(self, more: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
        """``code-provider serve``; ``more``: environment besides the addresses."""
        addresses = {**self.nats.environment, "CODE_ALLOWED_GIT_HOSTS": self.simulator.url}
        environment = {**addresses, **(more or {})}
        async with self.provider.command("serve", environment) as process:
            await wait_serving(process, self.provider.url, self.kcp.session)
            yield process


@asynccontextmanager
async def bed(folder: Path) -> AsyncIterator[Bed]:
    settings = Settings.from_environ(os.environ)
    async with (
        Kcp(folder / "kcp", kubeconfig=settings.kubeconfig) as kcp,
        NatsServer(folder / "nats") as server,
        SimulatorProcess(folder / "githubsim") as simulator,
        SimControl(simulator.url) as control,
        DevHub(kcp, folder / "devhub") as hub,
    ):
        provisioned = await hub.provision_provider("code")
        provider = install_provider(provisioned, folder / "provider", hub.url, settings.environment)
        await run_init(provider, server)
        await hub.wait_for_catalogue(provisioned)
        yield Bed(kcp, server, simulator, Scenario(simulator, control), hub, provider)


def say(text: str) -> None:
    print(text, flush=True)


def row(what: str, ours: str, baseline: str = "", goal: str = "") -> None:
    say(f"{what:<58} {ours:>22}  {baseline:<40} {goal}")


def say_where() -> None:
    """The machine that the figures are of."""
    memory_total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    say(
        f"{os.cpu_count()} cores, {memory_total:.0f} GiB, {platform.machine()}, Python {platform.python_version()}; "
        "kcp, nats-server, simulator, services and this client share them"
    )


async def new_tenants(bed: Bed, count: int) -> list[Tenant]:
    gate = asyncio.Semaphore(8)

    async def one() -> Tenant:
        async with gate:
            tenant = await bed.hub.create_tenant()
            await bed.hub.enable(tenant)
            return tenant

    return await asyncio.gather(*(one() for _ in range(count)))
