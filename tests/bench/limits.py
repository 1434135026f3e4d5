"""``make bench-limits``: what GitHub's limits on one account allow, and what the provider makes of it.

500 Repositories with two DeployKeys and three Collaborators each, against the simulator with the limits of github.com enforced,
their minute and hour shortened. Of what the API does not serve yet there is none. Printed are the requests that exceeded a
limit, what was lost or made twice, and the time beside the shortest that the limits allow.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bench

from devstack.githubsim.journal import Entry
from devstack.paths import RUNS
from devstack.provider import wait_serving
from devstack.resources import CODE_API, Manifest, is_ready
from devstack.scenario import connection, repository, secret
from devstack.tenant import Tenant

KEYS, PEOPLE = 2, 3
MINUTE, HOUR = 60.0, 3600.0
PER_MINUTE, PER_HOUR, POINTS, CONCURRENT, INTERVAL = 80, 500, 900, 100, 1.0
_SHOW_EVERY = 10.0
_CREATING = ("POST", "PUT", "PATCH")


def limits(scale: float) -> str:
    """For CODE_GIT_HOST_LIMITS."""

    def us(seconds: float) -> str:
        return f"{round(seconds / scale * 1_000_000)}us"

    return (
        f"creates:{PER_MINUTE}/{us(MINUTE)},creates:{PER_HOUR}/{us(HOUR)},points:{POINTS}/{us(MINUTE)},"
        f"interval:{us(INTERVAL)},concurrent:{CONCURRENT}"
    )


def switches(scale: float) -> dict[str, Any]:
    return {
        "secondary_limits": True,
        "secondary_minute": MINUTE / scale,
        "secondary_hour": HOUR / scale,
        "primary_quota": 1_000_000,
    }


def shortest(writes: int, scale: float) -> float:
    """Seconds from the first to the last of ``writes`` content-creating requests, each as early as all limits allow."""
    at: list[float] = []
    for number in range(writes):
        earliest = at[-1] + INTERVAL if at else 0.0
        for count, window in ((PER_MINUTE, MINUTE), (PER_HOUR, HOUR)):
            if number >= count:
                earliest = max(earliest, at[number - count] + window)
        at.append(earliest)
    return at[-1] / scale if at else 0.0


def deploy_key(name: str, repository_ref: str) -> Manifest:
    spec = {"repositoryRef": repository_ref, "title": name, "readOnly": True}
    return {"apiVersion": CODE_API, "kind": "DeployKey", "metadata": {"name": name}, "spec": spec}


def collaborator(name: str, repository_ref: str, username: str) -> Manifest:
    spec = {"repositoryRef": repository_ref, "username": username, "permission": "push"}
    return {"apiVersion": CODE_API, "kind": "Collaborator", "metadata": {"name": name}, "spec": spec}


async def create_all(tenant: Tenant, count: int, people: Sequence[str], *, access: bool) -> dict[str, set[str]]:
    """Create the objects; their names by plural."""
    names: dict[str, set[str]] = {"repositories": set(), "deploykeys": set(), "collaborators": set()}
    gate = asyncio.Semaphore(16)

    async def create(plural: str, manifest: Manifest) -> None:
        async with gate:
            await tenant.create(manifest)
            names[plural].add(manifest["metadata"]["name"])

    work = [create("repositories", repository(f"repo-{n}", "acme", visibility="private")) for n in range(count)]
    if access:
        for n in range(count):
            work += [create("deploykeys", deploy_key(f"key-{n}-{k}", f"repo-{n}")) for k in range(KEYS)]
            work += [
                create("collaborators", collaborator(f"person-{n}-{p}", f"repo-{n}", person))
                for p, person in enumerate(people)
            ]
    await asyncio.gather(*work)
    return names


def is_settled(manifest: Manifest) -> bool:
    """Ready, or waiting for a person to accept an invitation."""
    conditions = (manifest.get("status") or {}).get("conditions", ())
    return is_ready(manifest) or any(c["reason"] == "InvitationPending" for c in conditions)


async def all_settled(tenant: Tenant, names: Mapping[str, set[str]], timeout: float) -> dict[str, list[str]]:
    """Wait; returns the names of what is not settled by then."""
    left = {plural: sorted(wanted) for plural, wanted in names.items()}
    deadline, next_line = time.monotonic() + timeout, time.monotonic() + _SHOW_EVERY
    while any(left.values()) and time.monotonic() < deadline:
        await asyncio.sleep(1)
        for plural, missing in left.items():
            if missing:
                settled = {m["metadata"]["name"] for m in await tenant.list(plural) if is_settled(m)}
                left[plural] = sorted(names[plural] - settled)
        if time.monotonic() > next_line:
            bench.say("  not settled: " + ", ".join(f"{len(missing)} {plural}" for plural, missing in left.items()))
            next_line += _SHOW_EVERY
    return left


async def run(bed: bench.Bed, count: int, scale: float, *, access: bool) -> None:
    control = bed.scenario.control
    account = await bed.scenario.account("limits")
    people = [(await bed.scenario.account("person")).login for _ in range(PEOPLE)]
    tenant = (await bench.new_tenants(bed, 1))[0]
    environment = {
        "NATS_URL": bed.nats.url,
        "CODE_ALLOWED_GIT_HOSTS": bed.simulator.authority,
        "CODE_GIT_HOST_LIMITS": f"{bed.simulator.authority}={limits(scale)}",
        "CODE_RESYNC_INTERVAL": "1h",
    }
    async with bed.provider.command("serve", environment) as process:
        await wait_serving(process, bed.provider.url, bed.kcp.session)
        await control.set_switches(**switches(scale))
        await tenant.apply(secret("acme-token", account.token.value))
        await tenant.apply(connection("acme", account.login, bed.scenario.url))
        await tenant.wait_for("connections", "acme", is_ready, 60)
        await control.clear_journal()
        names = await create_all(tenant, count, people, access=access)
        expected = sum(map(len, names.values()))
        least = shortest(expected, scale)
        lost = await all_settled(tenant, names, least * 2 + 120)
        journal = await control.journal()
    report(journal.entries, journal.violations, lost, expected, least, scale)


def report(
    entries: Sequence[Entry],
    violations: Mapping[str, int],
    lost: Mapping[str, list[str]],
    expected: int,
    least: float,
    scale: float,
) -> None:
    writes = [e for e in entries if e.method in _CREATING]
    # A key's address is that of its list: what shows a second one is that the host carried out more than one per object.
    doubled = max(0, sum(1 for e in writes if (e.status or 500) < 300) - expected)
    first, last = min(e.started for e in writes), max(e.finished or e.started for e in writes)
    by_method = Counter(e.method for e in entries)
    bench.row("objects", f"{expected}", f"limits of github.com, time x {scale:g}")
    bench.row("violations of a secondary limit", f"{sum(violations.values())} {dict(violations) or ''}", "", "goal 0")
    bench.row("lost (not settled)", f"{sum(map(len, lost.values()))}", "", "goal 0")
    bench.row("doubled (writes beyond one per object)", f"{doubled}", "", "goal 0")
    bench.row("host requests", ", ".join(f"{count} {method}" for method, count in sorted(by_method.items())))
    taken = last - first
    share = f"{taken / least:.2f} x the least that the limits allow ({least:.1f} s)" if least else ""
    bench.row("first to last write", f"{taken:.1f} s", share, "goal 1.10 x")
    busiest = max(sum(1 for _ in group) for _, group in itertools.groupby(int(e.started) for e in entries))
    bench.row("busiest second", f"{busiest} requests")


async def main(count: int, scale: float, *, access: bool) -> None:
    folder: Path = RUNS / f"bench-limits-{os.getpid()}"
    try:
        async with bench.bed(folder) as made_bed:
            await run(made_bed, count, scale, access=access)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repositories", type=int, default=500)
    parser.add_argument("--scale", type=float, default=120.0, help="how many times faster the limits' clock runs")
    parser.add_argument("--only-repositories", action="store_true", help="without DeployKeys and Collaborators")
    given = parser.parse_args()
    asyncio.run(main(given.repositories, given.scale, access=not given.only_repositories))
