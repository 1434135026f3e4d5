"""End-to-end tests run against the real control plane, message bus and services; see `devstack.fixtures`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from devstack.devhub import DevHub
from devstack.foreign_host import ForeignHost, foreign_host
from devstack.githubsim import SimControl
from devstack.provider import ProviderInstallation
from devstack.scenario import Scenario
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("devstack.fixtures")


@pytest_asyncio.fixture
async def scenario(github_sim: SimulatorProcess) -> AsyncIterator[Scenario]:
    async with SimControl(github_sim.url) as control:
        yield Scenario(github_sim, control)


@pytest_asyncio.fixture(scope="module")
async def shared_tenant(devhub: DevHub, provider: ProviderInstallation) -> AsyncIterator[Tenant]:
    """One workspace for all tests of a module that leave nothing behind in it."""
    made = await devhub.create_tenant()
    await devhub.enable(made)
    yield made
    await devhub.delete_tenant(made)


@pytest_asyncio.fixture(name="foreign_host")
async def _foreign_host() -> AsyncIterator[ForeignHost]:
    async with foreign_host() as host:
        yield host
