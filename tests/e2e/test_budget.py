"""The budget of an account: kept ahead of time where its limits are known, and by the host's word everywhere."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from devstack.processes import Process
from devstack.resources import Manifest, condition, is_ready
from devstack.scenario import Scenario, collaborator, deploy_key, has, repository, unique
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

COUNT = 28
# What PACED_LIMITS of the conftest says, as the host enforces it.
ENFORCED = {
    "secondary_limits": True,
    "secondary_writes_per_minute": 10,
    "secondary_minute": 5.0,
    "secondary_writes_per_hour": 25,
    "secondary_hour": 20.0,
    "secondary_points_per_minute": 900,
    "secondary_concurrent": 20,
    "secondary_retry_after": 60,
}
UNTIL = re.compile(r"waiting until (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)$")


def waits_until(manifest: Manifest | None) -> datetime | None:
    """The time that the object says it waits for its budget."""
    found = condition(manifest, "Reconciling") if manifest else None
    if found is None or found["reason"] != "RateLimited":
        return None
    match = UNTIL.search(found["message"])
    assert match, found["message"]
    return datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


async def test_more_repositories_than_the_limits_allow_are_all_made_once_and_no_limit_is_exceeded(
    services: Process, scenario: Scenario, tenant: Tenant, shared_tenant: Tenant, paced_authority: str
) -> None:
    """Slow, because the limits allow 25 creates in 20 s, and it needs more."""
    account = await scenario.account()
    await scenario.control.set_switches(token_id=account.token.id, **ENFORCED)
    await scenario.connect(tenant, account, authority=paced_authority)
    await scenario.control.clear_journal()

    names = [f"repo-{number}" for number in range(COUNT)]
    await asyncio.gather(*(tenant.create(repository(name, "acme")) for name in names))
    async with asyncio.timeout(20):
        while not (waiting := [at for r in await tenant.list("repositories") if (at := waits_until(r))]):
            await asyncio.sleep(0.2)
    assert all(abs((at - datetime.now(UTC)).total_seconds()) < 120 for at in waiting)

    # Somebody else with the same account has a turn before the many.
    await scenario.connect(shared_tenant, account, timeout=60, authority=paced_authority)
    await shared_tenant.apply(repository("others", "acme"))
    await shared_tenant.wait_for("repositories", "others", is_ready, 60)
    assert len([r for r in await tenant.list("repositories") if not is_ready(r)]) >= 5

    for name in names:
        await tenant.wait_for("repositories", name, is_ready, 120)
    assert set(await scenario.repositories_of(account.login)) == {*names, "others"}
    assert (await scenario.control.journal()).violations == {}
    made = [e for e in await scenario.requests_of(account.login) if e.method == "POST"]
    assert [e.status for e in made] == [201] * (COUNT + 1), "none was asked for twice"


async def test_two_workspaces_with_one_account_at_the_pace_of_github_do_not_put_each_other_off(
    services: Process,
    tenant: Tenant,
    shared_tenant: Tenant,
    failing_sims: Sequence[SimulatorProcess],
    github_paced_authority: str,
) -> None:
    sim = failing_sims[-1]
    scenario = Scenario(sim, sim.control)
    account = await scenario.account()
    for workspace in (tenant, shared_tenant):
        await scenario.connect(workspace, account, "paced", authority=github_paced_authority)
    wanted = [(workspace, unique("paced")) for workspace in (tenant, shared_tenant) for _ in range(5)]
    await asyncio.gather(*(workspace.create(repository(name, "paced")) for workspace, name in wanted))
    # A second for each, by GitHub's word.
    for workspace, name in wanted:
        await workspace.wait_for("repositories", name, is_ready, 60)


async def test_a_key_that_is_removed_to_be_made_again_keeps_its_turn_for_that(
    services: Process, scenario: Scenario, tenant: Tenant, paced_authority: str
) -> None:
    """Slow, because the limits allow 25 creates in 20 s, and it needs more."""
    account = await scenario.account()
    await scenario.connect(tenant, account, authority=paced_authority)
    await tenant.apply(repository("site", "acme"))
    await tenant.wait_for("repositories", "site", is_ready)
    await tenant.apply(deploy_key("ci", "site", title="one"))
    await tenant.wait_for("deploykeys", "ci", is_ready)

    async def in_line(names: list[str]) -> None:
        await asyncio.gather(*(tenant.create(repository(name, "acme")) for name in names))
        async with asyncio.timeout(20):
            while not any(waits_until(r) and r["metadata"]["name"] in names for r in await tenant.list("repositories")):
                await asyncio.sleep(0.2)

    # With these the account has used up what it may create in 20 s, so that the line lasts even where creating is slow.
    before, after = [f"before-{number}" for number in range(26)], [f"after-{number}" for number in range(8)]
    await in_line(before)
    await tenant.patch("deploykeys", "ci", {"spec": {"title": "two"}})
    await tenant.wait_for("deploykeys", "ci", has("Reconciling", "True", "RateLimited"))
    await in_line(after)
    for name in (*before, *after):
        await tenant.wait_for("repositories", name, is_ready, 120)
    ready = await tenant.wait_for("deploykeys", "ci", is_ready)
    assert condition(ready, "KeyReplacing") is None
    writes = await scenario.requests_of(account.login, writes_only=True)
    removed = next(number for number, entry in enumerate(writes) if entry.method == "DELETE")
    again = next(number for number, entry in enumerate(writes) if number > removed and entry.path.endswith("/keys"))
    later = len(writes) - removed - 2
    assert later > len(after) / 2, "there was a line: most of those that came later are made later"
    # Usually nobody has a turn in between. On a busy machine the key may be late, and others do not wait for it.
    assert again - removed - 1 < later / 2, "it does not stand in line again behind those who came after it"


async def test_the_end_of_an_access_is_kept_while_there_is_no_quota_for_repairing(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    """Slow, because the access ends 25 s after it was asked for: it must be granted before that on a busy machine too."""
    account = await scenario.account()
    org, guests = unique("org"), [unique("leaving"), unique("staying")]
    for guest in guests:
        await scenario.control.create_user(guest)
    await scenario.control.create_org(org, members={account.login: "admin", **dict.fromkeys(guests, "member")})
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme", owner=org))
    await tenant.wait_for("repositories", "site", is_ready)
    await tenant.apply(collaborator("staying", "site", guests[1], permission="push"))
    await tenant.wait_for("collaborators", "staying", is_ready)

    # Less than a fifth of the quota is left: some for what is declared, and none for comparisons by the clock.
    await scenario.control.set_switches(token_id=account.token.id, primary_quota=400)
    await scenario.use_up(account, 330)
    until = datetime.now(UTC) + timedelta(seconds=25)
    leaving = collaborator("leaving", "site", guests[0], expiresAt=until.strftime("%Y-%m-%dT%H:%M:%SZ"))
    await tenant.apply(leaving)
    await tenant.wait_for("collaborators", "leaving", is_ready)
    await scenario.control.edit_repository(org, "site", grants={guests[1]: "read"})

    await tenant.wait_for("collaborators", "leaving", has("AccessEnded", "True", "Expired"), 60)
    grants = await scenario.control.grants(org, "site")
    assert [grants.get(guest) for guest in guests] == [None, "read"]
    await tenant.reconcile("collaborators", "staying", "now")
    assert (await scenario.control.grants(org, "site"))[guests[1]] == "write", "what is asked for is not put off"


async def test_a_retry_after_told_to_one_service_stops_the_others(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("before", "acme"))
    await tenant.wait_for("repositories", "before", is_ready)

    await scenario.control.add_fault("secondary_limit", path="/user", login=account.login, seconds=12)
    await tenant.request_reconcile("connections", "acme")
    refused = await tenant.wait_for("connections", "acme", has("Reconciling", "True", "RateLimited"))
    assert condition(refused, "Ready")["status"] == "True"
    await scenario.control.clear_journal()

    await tenant.apply(repository("site", "acme"))
    waiting = await tenant.wait_for("repositories", "site", has("Reconciling", "True", "RateLimited"))
    assert waits_until(waiting) is not None
    assert await scenario.requests_of(account.login) == []
    await tenant.wait_for("repositories", "site", is_ready, 60)
