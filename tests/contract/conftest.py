"""Contract tests hold a fake and the real thing to the same cases; the real things come from `devstack.fixtures`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from git_hosts import HOSTS, Host, Simulator, running_simulator


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("devstack.fixtures")


@pytest.fixture(params=HOSTS.values(), ids=HOSTS.keys())
async def host(request: pytest.FixtureRequest) -> AsyncIterator[Host]:
    async with request.param() as running:
        yield running
        for repository in running.made:
            await running.backend.delete_repository(repository.id)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with running_simulator() as running:
        yield running
