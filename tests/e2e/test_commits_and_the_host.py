"""Commits on the real parts while the host loses answers, at each step, or asks for a pause."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from codecommon.api.bundle import Bundle, BundleFile
from codecommon.messaging.bundles import BundleStore, open_bundle_store
from codecommon.messaging.bus import Bus
from codecommon.process.settings import NatsSettings
from devstack.nats import NatsServer
from devstack.processes import Process
from devstack.resources import CODE_API, Manifest, condition, is_ready
from devstack.scenario import Scenario, repository, unique
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

WITHIN = 120.0
STEPS = (
    ("GET", ".*/git/ref/.*"),
    ("GET", ".*/git/trees/.*"),
    ("POST", ".*/git/trees"),
    ("POST", ".*/git/commits"),
    ("PATCH", ".*/git/refs/.*"),
)


@pytest_asyncio.fixture
async def bundles(services: Process, services_nats: NatsServer) -> AsyncIterator[BundleStore]:
    async with (
        Bus.connect(NatsSettings(url=(services_nats.url,)), "test") as bus,
        open_bundle_store(bus) as store,
    ):
        yield store


def is_over(manifest: Manifest | None) -> bool:
    return manifest is not None and bool((manifest.get("status") or {}).get("completedAt"))


async def commit(tenant: Tenant, bundles: BundleStore, of: str, name: str) -> None:
    bundle = Bundle.build([BundleFile.of_text(f"{name}.txt", f"{name}\n")])
    source = {"bundleRef": {"name": bundle.name, "digest": bundle.digest}}
    spec = {"repositoryRef": of, "source": source, "message": f"Commit {name}"}
    manifest = {"apiVersion": CODE_API, "kind": "RepositoryCommit", "metadata": {"name": name}, "spec": spec}
    taken = await tenant.apply(manifest)
    await bundles.put(taken["metadata"]["annotations"]["kcp.io/cluster"], bundle)


async def test_an_answer_that_is_lost_at_any_step_makes_no_second_commit(
    services: Process, scenario: Scenario, tenant: Tenant, bundles: BundleStore
) -> None:
    account, site = await scenario.account(), unique("site")
    await scenario.connect(tenant, account, site)
    await tenant.apply(repository(site, site, autoInit=True))
    await tenant.wait_for("repositories", site, is_ready)
    names = [f"{site}-{number}" for number in range(2 * len(STEPS))]
    try:
        for number, name in enumerate(names):
            method, path = STEPS[number // 2]
            await scenario.control.add_fault(
                "reset", method=method, path=path, applied=bool(number % 2), login=account.login
            )
            await commit(tenant, bundles, site, name)
            found = await tenant.wait_for("repositorycommits", name, is_over, WITHIN)
            assert found is not None
            assert found["status"]["phase"] == "Succeeded", found["status"]
    finally:
        await scenario.control.clear_faults()
    commits = await scenario.control.commits(account.login, site)
    subjects = [commit.message.splitlines()[0] for commit in commits]
    assert subjects == [*(f"Commit {name}" for name in reversed(names)), "Initial commit"]
    assert all(len(commit.parents) == 1 for commit in commits[:-1])
    shown = await scenario.control.files(account.login, site)
    assert {f"{name}.txt": f"{name}\n".encode() for name in names}.items() <= shown.items()


async def test_a_commit_waits_out_a_pause_that_the_host_asks_for_and_says_so(
    services: Process, scenario: Scenario, tenant: Tenant, bundles: BundleStore
) -> None:
    account, site = await scenario.account(), unique("site")
    await scenario.connect(tenant, account, site)
    await tenant.apply(repository(site, site, autoInit=True))
    await tenant.wait_for("repositories", site, is_ready)
    await scenario.control.add_fault(
        "secondary_limit", method="POST", path=".*/git/commits", seconds=5, login=account.login
    )
    await commit(tenant, bundles, site, f"{site}-1")

    def waits(found: Manifest | None) -> bool:
        reason = (condition(found or {}, "Reconciling") or {}).get("reason")
        return reason == "RateLimited" and (found or {})["status"]["phase"] == "Running"

    await tenant.wait_for("repositorycommits", f"{site}-1", waits, WITHIN)
    found = await tenant.wait_for("repositorycommits", f"{site}-1", is_over, WITHIN)
    assert found is not None
    assert found["status"]["phase"] == "Succeeded"
    assert len(await scenario.control.commits(account.login, site)) == 2
