"""What tests/e2e and tests/security share: the real control plane, message bus and services; see `devstack.fixtures`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from hostile_host import HostileHost, serve_hostile_host

from devstack.enterprise import EnterpriseSim
from devstack.foreign_host import ForeignHost, foreign_host
from devstack.githubsim import SimControl
from devstack.ports import held_ports
from devstack.scenario import Scenario
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant
from devstack.tenants import TenantPool


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("devstack.fixtures")


# What `CODE_GIT_HOST_LIMITS` says of the simulator's second name. `test_budget` has the simulator enforce the same.
PACED_LIMITS = "creates:10/5s,creates:25/20s,points:900/5s,interval:100ms,concurrent:20"


@pytest.fixture(scope="session")
def paced_authority(github_sim: SimulatorProcess) -> str:
    """The simulator under a second name, to which `PACED_LIMITS` apply."""
    return github_sim.authority.replace("127.0.0.1", "localhost")


@pytest.fixture(scope="session")
def github_paced_authority(failing_hosts: Sequence[SimulatorProcess]) -> str:
    """The last of `failing_sims` under a second name, to which GitHub's own limits apply."""
    return failing_hosts[-1].authority.replace("127.0.0.1", "localhost")


@pytest.fixture(scope="session")
def failing_ports() -> Iterator[Sequence[socket.socket]]:
    with held_ports(4) as held:
        yield held


@pytest.fixture(scope="session")
def failing_hosts(run_dir: Path, failing_ports: Sequence[socket.socket]) -> Sequence[SimulatorProcess]:
    """The simulators of `failing_sims` before they run. Services of every worker know them, and one or two workers use them."""
    ports = [held.getsockname()[1] for held in failing_ports]
    return [SimulatorProcess(run_dir / f"githubsim-failing-{port}", port=port) for port in ports]


@pytest_asyncio.fixture(scope="session")
async def failing_sims(
    failing_hosts: Sequence[SimulatorProcess], failing_ports: Sequence[socket.socket]
) -> AsyncIterator[Sequence[SimulatorProcess]]:
    """A simulator for each kind of outage in `test_outage`, so that all outages last at the same time, and one more."""
    for held in failing_ports:
        held.close()
    async with AsyncExitStack() as exits:
        await asyncio.gather(*(exits.enter_async_context(sim) for sim in failing_hosts))
        yield failing_hosts


@pytest_asyncio.fixture(scope="session")
async def hostile_server() -> AsyncIterator[HostileHost]:
    """A git host that answers as a test of tests/security says."""
    async with serve_hostile_host() as host:
        yield host


@pytest.fixture(scope="session")
def services_environment(
    github_sim: SimulatorProcess,
    enterprise_sim: EnterpriseSim,
    paced_authority: str,
    github_paced_authority: str,
    failing_hosts: Sequence[SimulatorProcess],
    hostile_server: HostileHost,
) -> Mapping[str, str]:
    plain = [
        github_sim.authority,
        paced_authority,
        github_paced_authority,
        github_sim.downloads_url.removeprefix("http://"),
        *(sim.authority for sim in failing_hosts),
        hostile_server.url.removeprefix("http://"),
    ]
    hosts = [enterprise_sim.host, *(f"http://{authority}" for authority in plain)]
    return {
        "CODE_RESYNC_INTERVAL": "10s",
        "CODE_PACKAGE_CRAWL_INTERVAL": "1s",
        "CODE_ALLOWED_GIT_HOSTS": ",".join(hosts),
        "CODE_GIT_HOST_LIMITS": f"{paced_authority}={PACED_LIMITS};{github_paced_authority}=github",
    }


@pytest_asyncio.fixture
async def scenario(github_sim: SimulatorProcess) -> AsyncIterator[Scenario]:
    async with SimControl(github_sim.url) as control:
        yield Scenario(github_sim, control)


@pytest_asyncio.fixture
async def other_tenant(tenants: TenantPool) -> AsyncIterator[Tenant]:
    """A second workspace beside ``tenant``, and as empty."""
    taken = await tenants.take()
    yield taken
    await tenants.give_back(taken)


@pytest_asyncio.fixture(scope="module")
async def shared_tenant(tenants: TenantPool) -> AsyncIterator[Tenant]:
    """One workspace for those tests of a module that leave nothing behind in it."""
    taken = await tenants.take()
    yield taken
    await tenants.give_back(taken)


@pytest_asyncio.fixture(name="foreign_host")
async def _foreign_host() -> AsyncIterator[ForeignHost]:
    async with foreign_host() as host:
        yield host
