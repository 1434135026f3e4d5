"""The git host down, slow, or hidden behind the pages of a proxy: nothing turns red, and everything catches up.

Reads whose answers break off are in tests/contract/test_host_outage.py: a 304 has no body that could.
CODE_TEST_OUTAGE=10m makes it as long as outages are.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from codecommon.api.durations import parse_duration
from devstack.githubsim.journal import Entry
from devstack.processes import Process
from devstack.resources import Manifest, condition, is_ready
from devstack.scenario import Scenario, collaborator, deploy_key, has, repository, unique
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant
from devstack.tenants import TenantPool

COUNT = 12
# An object whose pass is the probe, after a comparison by the clock that was under way, says so only when neither had an answer.
PROBE_SECONDS = 40
# By default longer than the deadline of a request, so that even a slow host has failed often enough by then.
OUTAGE_SECONDS = parse_duration(os.environ.get("CODE_TEST_OUTAGE", "25s")).total_seconds()
# A probe is due within 25 s, everybody else within 15 s of it.
CAUGHT_UP_SECONDS = 60
# A service goes from one probe to four requests and then eight; the objects' return is spread over seconds besides.
MOST_AT_ONCE = 8

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(OUTAGE_SECONDS + 275)]


@dataclass(frozen=True)
class KindSpec:
    action: Any
    fields: dict[str, Any]


UNAVAILABLE = has("Reconciling", "True", "HostUnavailable")
INVITED = has("InvitationPending", "True", "AwaitingAcceptance")

KINDS = {
    "down": KindSpec("reset", {}),
    "slow": KindSpec("slow", {"seconds": 30.0}),
    "half-answering": KindSpec("html_502", {}),
}


@pytest_asyncio.fixture(scope="module")
async def outages(
    services: Process, tenants: TenantPool, failing_sims: Sequence[SimulatorProcess]
) -> AsyncIterator[Mapping[str, asyncio.Task[None]]]:
    """All of them at the same time, each of a host of its own with a workspace that uses it: most of the time is waiting."""
    taken = [await tenants.take() for _ in KINDS]
    tasks = {
        name: asyncio.create_task(_outage(Scenario(sim, sim.control), tenant, kind))
        for (name, kind), sim, tenant in zip(KINDS.items(), failing_sims[:-1], taken, strict=True)
    }
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.wait(tasks.values())
    for tenant in taken:
        await tenants.give_back(tenant)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_outage_turns_nothing_red_and_is_caught_up_without_a_storm(
    outages: Mapping[str, asyncio.Task[None]], kind: str
) -> None:
    """Slow, because an outage must outlast the deadline of a request, and probes follow each other at up to 25 s."""
    await outages[kind]


async def test_writes_whose_answers_break_off_are_not_made_twice(
    services: Process, tenant: Tenant, failing_sims: Sequence[SimulatorProcess]
) -> None:
    sim = failing_sims[-1]
    scenario = Scenario(sim, sim.control)
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme"))
    await tenant.wait_for("repositories", "site", is_ready)
    numbers = range(3)
    guests = [unique("guest") for _ in numbers]
    for guest in guests:
        await scenario.control.create_user(guest)

    await scenario.control.add_fault("truncate", method="POST|PUT|PATCH", count=None)
    for number in numbers:
        await tenant.apply(repository(f"new-{number}", "acme"))
        await tenant.apply(deploy_key(f"key-{number}", "site"))
        await tenant.apply(collaborator(f"guest-{number}", "site", guests[number]))
    told: list[Manifest] = []
    for kind, name in (("repositories", "new"), ("deploykeys", "key"), ("collaborators", "guest")):
        for number in numbers:
            found = await tenant.wait_for(kind, f"{name}-{number}", _told_or_done)
            told += [found] if found is not None and UNAVAILABLE(found) else []
            assert condition(found or {}, "Stalled") is None
    assert {found["kind"] for found in told} >= {"Repository"}
    await scenario.control.clear_faults()

    for number in numbers:
        await tenant.wait_for("repositories", f"new-{number}", is_ready, CAUGHT_UP_SECONDS)
        await tenant.wait_for("deploykeys", f"key-{number}", is_ready, CAUGHT_UP_SECONDS)
        await tenant.wait_for("collaborators", f"guest-{number}", INVITED, CAUGHT_UP_SECONDS)
    assert set(await scenario.repositories_of(account.login)) == {"site", *(f"new-{number}" for number in numbers)}
    assert len(await scenario.control.keys(account.login, "site")) == len(numbers)
    assert sorted(i.login for i in await scenario.control.invitations(account.login, "site")) == sorted(guests)
    writes = await scenario.requests_of(account.login, writes_only=True)
    made = Counter(entry.path.rpartition("/")[2] for entry in writes if entry.method == "POST")
    assert made == {"repos": 1 + len(numbers), "keys": len(numbers)}, (
        "what was made is looked for before it is made again"
    )


async def _outage(scenario: Scenario, tenant: Tenant, kind: KindSpec) -> None:
    account = await scenario.account()
    await scenario.connect(tenant, account)
    names = [f"site-{number}" for number in range(COUNT)]
    for name in names:
        await tenant.apply(repository(name, "acme", description="before"))
    for name in names:
        await tenant.wait_for("repositories", name, is_ready)

    await scenario.control.add_fault(kind.action, count=None, **kind.fields)
    await scenario.control.clear_journal()
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(OUTAGE_SECONDS))
        group.create_task(_nothing_turns_red(tenant, names))
    during = await scenario.control.journal()
    await scenario.control.clear_faults()
    assert during.total <= _most_requests(time.monotonic() - began)

    await scenario.control.clear_journal()
    async with asyncio.timeout(CAUGHT_UP_SECONDS):
        for name in names:
            await tenant.wait_for("repositories", name, _settled, CAUGHT_UP_SECONDS)
    made = await scenario.repositories_of(account.login)
    assert {made[name].description for name in names[1:]} == {"after"}
    assert _most_at_once((await scenario.control.journal()).entries) <= MOST_AT_ONCE
    # Each service has a breaker of its own: connection-svc works again too.
    await scenario.connect(tenant, account, "after", timeout=CAUGHT_UP_SECONDS)


def _most_requests(seconds: float) -> float:
    """Those that were under way when it began, each read sent twice over a connection that breaks, and then one probe in five
    seconds at most of each service."""
    return 2 * (COUNT + 5 + 2 * seconds // 5)


async def _nothing_turns_red(tenant: Tenant, names: list[str]) -> None:
    untouched, *edited = names
    await tenant.request_reconcile("repositories", untouched)
    for name in edited:
        await tenant.patch("repositories", name, {"spec": {"description": "after"}})
    for name in edited:
        found = await tenant.wait_for("repositories", name, UNAVAILABLE, OUTAGE_SECONDS + PROBE_SECONDS)
        assert condition(found or {}, "Stalled") is None
    seen = await tenant.wait_for("repositories", untouched, UNAVAILABLE, OUTAGE_SECONDS + PROBE_SECONDS)
    assert is_ready(seen)
    acme = await tenant.get("connections", "acme")
    assert is_ready(acme)


def _most_at_once(entries: list[Entry]) -> int:
    """Of these requests alone: what the outage left behind still sleeps in the simulator, its client long gone."""
    edges = sorted([(e.started, 1) for e in entries] + [(e.finished, -1) for e in entries if e.finished is not None])
    return max(itertools.accumulate(change for _, change in edges))


def _told_or_done(manifest: Manifest | None) -> bool:
    return UNAVAILABLE(manifest) or is_ready(manifest) or INVITED(manifest)


def _settled(manifest: Manifest | None) -> bool:
    return is_ready(manifest) and condition(manifest or {}, "Reconciling") is None
