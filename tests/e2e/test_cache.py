"""What a service keeps of a host's answers: not more than it may, and nothing where keeping it does not pay."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from devstack.devhub import DevHub
from devstack.kcp import Kcp
from devstack.own_instance import OwnInstance, own_instance
from devstack.provider import metrics_of
from devstack.resources import is_ready
from devstack.scenario import Account, Scenario, repository
from devstack.settings import Settings
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest_asyncio.fixture(scope="module")
async def small(
    kcp: Kcp, devhub: DevHub, github_sim: SimulatorProcess, dev_settings: Settings, run_dir: Path
) -> AsyncIterator[OwnInstance]:
    """An instance whose cache is small, and whose hours are short."""
    settings = {"CODE_ALLOWED_GIT_HOSTS": github_sim.authority}
    program = [sys.executable, Path(__file__).with_name("small_cache.py")]
    folder = run_dir / "small-cache"
    async with own_instance(kcp, devhub, folder, dev_settings.environment, settings, program=program) as instance:
        yield instance


async def _repositories(scenario: Scenario, tenant: Tenant, connection: str, names: list[str]) -> Account:
    account = await scenario.account()
    await scenario.connect(tenant, account, connection, timeout=60)
    for name in names:
        await tenant.apply(repository(name, connection))
    for name in names:
        await tenant.wait_for("repositories", name, is_ready)
    return account


class _Reader:
    """Has a repository looked at, and says whether the host answered that nothing has changed."""

    def __init__(self, scenario: Scenario, tenant: Tenant, account: Account) -> None:
        self._scenario, self._tenant, self._account = scenario, tenant, account
        self._numbers = itertools.count()

    async def not_modified(self, name: str) -> bool:
        await self._scenario.control.clear_journal()
        await self._tenant.reconcile("repositories", name, str(next(self._numbers)))
        reads = [e for e in await self._scenario.requests_of(self._account.login) if "/repos" in e.path]
        return reads[0].not_modified


async def test_what_was_not_used_for_long_gives_way_to_what_is_new(small: OwnInstance, scenario: Scenario) -> None:
    names = [f"kept-{number}" for number in range(12)]
    account = await _repositories(scenario, small.tenant, "kept", names)
    reader = _Reader(scenario, small.tenant, account)
    for name in names:
        await reader.not_modified(name)
    assert await reader.not_modified(names[-1])
    assert not await reader.not_modified(names[0])
    assert await reader.not_modified(names[0])


async def test_where_everything_changes_all_the_time_nothing_is_kept_for_an_hour(
    small: OwnInstance, scenario: Scenario, kcp: Kcp
) -> None:
    account = await _repositories(scenario, small.tenant, "changing", ["site"])
    reader = _Reader(scenario, small.tenant, account)

    async def switched_off() -> bool:
        exposed = (await metrics_of(small.process, kcp.session))["repository-svc"]
        return any(
            sample.labels.get("result") == "off" and sample.value > 0
            for family in text_string_to_metric_families(exposed)
            for sample in family.samples
        )

    async with asyncio.timeout(90):
        for number in itertools.count():
            await scenario.control.edit_repository(account.login, "site", description=str(number))
            await reader.not_modified("site")
            if await switched_off():
                break
    assert [await reader.not_modified("site") for _ in range(2)] == [False, False]
    await scenario.wait_until(lambda: reader.not_modified("site"), True, timeout=30, what="the answer to an ETag")
