"""What a git host is asked: conditionally where nothing has changed, and counted for the operator."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from devstack.githubsim.journal import Entry
from devstack.kcp import Kcp
from devstack.processes import Process
from devstack.provider import metrics_of
from devstack.resources import is_ready
from devstack.scenario import Scenario, repository
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def test_what_the_host_says_is_unchanged_costs_nothing_and_is_still_compared_with_what_is_wanted(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme", description="one"))
    await tenant.wait_for("repositories", "site", is_ready)
    await tenant.reconcile("repositories", "site", "first")

    async def since_then() -> tuple[list[Entry], list[Entry]]:
        entries = [e for e in await scenario.requests_of(account.login) if not e.path.endswith("/user")]
        return [e for e in entries if e.method == "GET"], [e for e in entries if e.method != "GET"]

    await scenario.control.clear_journal()
    await tenant.reconcile("repositories", "site", "second")
    reads, writes = await since_then()
    assert [(e.status, e.not_modified) for e in reads] == [(304, True)] * len(reads)
    assert reads
    assert writes == []

    await scenario.control.clear_journal()
    await tenant.patch("repositories", "site", {"spec": {"description": "two"}})
    await tenant.wait_for("repositories", "site", is_ready)
    reads, writes = await since_then()
    assert reads[0].status == 304
    assert [e.method for e in writes] == ["PATCH"]
    assert (await scenario.repositories_of(account.login))["site"].description == "two"


async def test_requests_their_cost_the_quota_and_the_share_of_304_can_be_watched(
    services: Process, scenario: Scenario, tenant: Tenant, paced_authority: str, kcp: Kcp
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account, authority=paced_authority)
    await tenant.apply(repository("site", "acme"))
    await tenant.wait_for("repositories", "site", is_ready)
    for when in ("first", "second"):
        await tenant.reconcile("repositories", "site", when)

    exposed = (await metrics_of(services, kcp.session))["repository-svc"]
    found = {
        (sample.name, *(sample.labels.get(label) for label in ("urgency", "result") if label in sample.labels))
        for family in text_string_to_metric_families(exposed)
        for sample in family.samples
        if sample.labels.get("host") == paced_authority and sample.value > 0
    }
    assert found >= {
        ("code_host_requests_total",),
        ("code_host_conditional_requests_total", "hit"),
        ("code_host_budget_requests_total", "desired"),
        ("code_host_budget_points_total", "desired"),
        ("code_host_quota_remaining",),
    }
