"""Processes are killed in the middle of work: nothing is lost, nothing is doubled, nothing foreign is touched."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from pathlib import Path

import pytest

from devstack.processes import Process
from devstack.resources import is_ready
from devstack.scenario import Scenario, deploy_key, repository
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

COUNT = 60
"""More than are made before the kill and than a workspace has slots, so that all its slots are taken then."""

MADE = 20
"""So many are on the host by then."""


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


async def test_watcher_and_services_killed_in_the_middle_of_many_creates(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    """Slow, because NATS delivers what the killed services held again only after 15 s."""
    account = await scenario.account()
    await scenario.connect(tenant, account)
    foreign = await scenario.control.create_repository(account.login, "repo-7", description="foreign")
    await scenario.control.set_switches(latency=0.05)
    try:
        names = [f"repo-{number}" for number in range(COUNT)]
        await asyncio.gather(*(tenant.create(repository(name, "acme")) for name in names))
        await scenario.wait_until(
            lambda: _has_at_least(scenario, account.login, MADE),
            True,
            timeout=60,
            what="the first repositories on the host",
        )
        killed = _children(services.pid)
        assert len(killed) >= 6
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

        for name in names:
            await tenant.wait_for("repositories", name, is_ready, 120)
        made = await scenario.repositories_of(account.login)
        assert set(made) == set(names)
        objects = {o["metadata"]["name"]: o["status"] for o in await tenant.list("repositories")}
        assert {name: str(repo.id) for name, repo in made.items()} == {n: s["repoID"] for n, s in objects.items()}
        # Those whose maker was killed before it could say so are recognised by their claim, the foreign one is not.
        origins = {name: status["origin"] for name, status in objects.items()}
        assert {name for name, origin in origins.items() if origin == "Adopted"} == {"repo-7"}

        await asyncio.gather(*(tenant.delete("repositories", name) for name in names))
        for name in names:
            await tenant.wait_for("repositories", name, lambda r: r is None, 120)
        left = await scenario.repositories_of(account.login)
        assert {name: repo.id for name, repo in left.items()} == {"repo-7": foreign.id}
    finally:
        await scenario.control.set_switches(latency=0.0)


async def test_access_svc_killed_in_the_middle_of_forty_keys_leaves_one_of_each(
    services: Process, scenario: Scenario, tenant: Tenant
) -> None:
    """Slow, because NATS delivers what the killed services held again only after 15 s."""
    account = await scenario.account()
    await scenario.connect(tenant, account)
    await tenant.apply(repository("site", "acme"))
    await tenant.wait_for("repositories", "site", is_ready)
    await scenario.control.set_switches(latency=0.05)
    try:
        names = [f"key-{number}" for number in range(40)]
        await asyncio.gather(*(tenant.create(deploy_key(name, "site")) for name in names))
        await scenario.wait_until(
            lambda: _has_keys(scenario, account.login, 10), True, timeout=60, what="ten keys on the host"
        )
        for pid in _children(services.pid):
            os.kill(pid, signal.SIGKILL)

        for name in names:
            await tenant.wait_for("deploykeys", name, is_ready, 120)
        keys = {str(key.id): key.key for key in await scenario.control.keys(account.login, "site")}
        pairs = {s["metadata"]["name"]: s["data"] for s in await tenant.list("secrets")}
        stored = {
            o["status"]["keyID"]: base64.b64decode(pairs[o["status"]["secretRef"]["name"]]["ssh-publickey"]).decode()
            for o in await tenant.list("deploykeys")
        }
        assert keys == {key_id: " ".join(line.split()[:2]) for key_id, line in stored.items()}
        assert len(keys) == len(names)
    finally:
        await scenario.control.set_switches(latency=0.0)


async def _has_keys(scenario: Scenario, login: str, count: int) -> bool:
    return len(await scenario.control.keys(login, "site")) >= count


async def _has_at_least(scenario: Scenario, login: str, count: int) -> bool:
    return len(await scenario.repositories_of(login)) >= count
