"""``make bench-limits``: what GitHub's limits on one account allow, and what the provider makes of it.

500 Repositories with two DeployKeys and three Collaborators each, against the simulator with the limits of github.com enforced,
their minute and hour shortened; after that the same without limits, which shows what this machine can do. Printed are the
requests that exceeded a limit, what was lost or made twice, and the time beside the shortest that the limits allow.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench

from devstack.githubsim.journal import Entry
from devstack.paths import RUNS
from devstack.resources import CODE_API, Manifest, is_ready
from devstack.scenario import connection, repository, secret
from devstack.tenant import Tenant

KEYS, PEOPLE = 2, 3
MINUTE, HOUR = 60.0, 3600.0
PER_MINUTE, PER_HOUR, POINTS, CONCURRENT, INTERVAL = 80, 500, 900, 100, 1.0
_SHOW_EVERY = 30.0
# To list thousands of objects costs kcp a part of what it has for the services.
_LOOK_EVERY = 5.0
_SLOWEST_PER_SECOND = 10.0
_CREATING = ("POST", "PUT", "PATCH")


def limits(scale: float) -> str:
    """For CODE_GIT_HOST_LIMITS."""

    def us(seconds: float) -> str:
        return f"{round(seconds / scale * 1_000_000)}us"

    return (
        f"creates:{PER_MINUTE}/{us(MINUTE)},creates:{PER_HOUR}/{us(HOUR)},points:{POINTS}/{us(MINUTE)},"
        f"interval:{us(INTERVAL)},concurrent:{CONCURRENT}"
    )


def switches(scale: float | None) -> dict[str, Any]:
    if scale is None:
        return {"secondary_limits": False, "primary_quota": 1_000_000}
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
        await asyncio.sleep(_LOOK_EVERY)
        for plural, missing in left.items():
            if missing:
                settled = {m["metadata"]["name"] for m in await tenant.list(plural) if is_settled(m)}
                left[plural] = sorted(names[plural] - settled)
        if time.monotonic() > next_line:
            bench.say("  not settled: " + ", ".join(f"{len(missing)} {plural}" for plural, missing in left.items()))
            next_line += _SHOW_EVERY
    return left


@dataclass(frozen=True)
class Figures:
    """What a run made of ``expected`` objects. ``seconds``: from the first object to the last that is settled."""

    entries: Sequence[Entry]
    violations: Mapping[str, int]
    lost: Mapping[str, list[str]]
    expected: int
    seconds: float

    @property
    def writes(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.method in _CREATING]

    @property
    def first_to_last_write(self) -> float:
        writes = self.writes
        return max(e.finished or e.started for e in writes) - min(e.started for e in writes) if writes else 0.0


async def run(bed: bench.Bed, count: int, scale: float | None, *, access: bool) -> Figures:
    """Make the objects in a workspace and with an account of their own; ``scale`` None: a host without limits."""
    control = bed.scenario.control
    account = await bed.scenario.account("limits")
    people = [(await bed.scenario.account("person")).login for _ in range(PEOPLE)]
    tenant = (await bench.new_tenants(bed, 1))[0]
    environment = {"CODE_RESYNC_INTERVAL": "1h"}
    if scale is not None:
        environment["CODE_GIT_HOST_LIMITS"] = f"{bed.simulator.authority}={limits(scale)}"
    async with bed.serving(environment):
        await control.set_switches(**switches(scale))
        await tenant.apply(secret("acme-token", account.token.value))
        await tenant.apply(connection("acme", account.login, bed.scenario.url))
        await tenant.wait_for("connections", "acme", is_ready, 60)
        await control.clear_journal()
        begun = time.monotonic()
        names = await create_all(tenant, count, people, access=access)
        expected = sum(map(len, names.values()))
        least = shortest(expected, scale) if scale is not None else expected / _SLOWEST_PER_SECOND
        lost = await all_settled(tenant, names, least * 2 + 120)
        seconds = time.monotonic() - begun
        journal = await control.journal()
    return Figures(journal.entries, journal.violations, lost, expected, seconds)


def report(paced: Figures, unpaced: Figures | None, scale: float) -> None:
    least, taken = shortest(paced.expected, scale), paced.first_to_last_write
    # A key's address is that of its list: what shows a second one is that the host carried out more than one per object.
    doubled = max(0, sum(1 for e in paced.writes if (e.status or 500) < 300) - paced.expected)
    by_method = Counter(e.method for e in paced.entries)
    violations = paced.violations
    bench.row("objects", f"{paced.expected}", f"limits of github.com, time x {scale:g}")
    bench.row("violations of a secondary limit", f"{sum(violations.values())} {dict(violations) or ''}", "", "goal 0")
    bench.row("lost (not settled)", f"{sum(map(len, paced.lost.values()))}", "", "goal 0")
    bench.row("doubled (writes beyond one per object)", f"{doubled}", "", "goal 0")
    bench.row("host requests", ", ".join(f"{count} {method}" for method, count in sorted(by_method.items())))
    share = f"{taken / least:.2f} x the least that the limits allow ({least:.1f} s)" if least else ""
    bench.row("first to last write", f"{taken:.1f} s", share, "goal 1.10 x")
    if unpaced is not None and (free := unpaced.first_to_last_write):
        bench.row("the same objects without limits", f"{free:.1f} s", f"paced takes {taken / free:.2f} x of that")
        pace, burst = len(unpaced.writes) / free, scale / INTERVAL
        # Slower than the limits let bursts be, this machine is a part of what was measured.
        slow = ": the machine is the limit in bursts, take a smaller --scale" if pace < burst else ""
        bench.row("writes per second without limits", f"{pace:.1f}", f"a burst may have {burst:g}{slow}")
        bench.row("lost without limits", f"{sum(map(len, unpaced.lost.values()))}", "", "goal 0")
    if paced.entries:
        seconds = Counter(int(e.started) for e in paced.entries)
        bench.row("busiest second", f"{max(seconds.values())} requests")
    bench.row("first object to last settled", f"{paced.seconds:.1f} s")


async def main(count: int, scale: float, *, access: bool, baseline: bool) -> None:
    folder: Path = RUNS / f"bench-limits-{os.getpid()}"
    try:
        async with bench.bed(folder) as made_bed:
            bench.say_where()
            paced = await run(made_bed, count, scale, access=access)
            report(paced, await run(made_bed, count, None, access=access) if baseline else None, scale)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repositories", type=int, default=500)
    # Bursts of a write per scaled second, and messages up to a second late: faster clocks measure the machine.
    parser.add_argument("--scale", type=float, default=20.0, help="how many times faster the limits' clock runs")
    parser.add_argument("--no-baseline", action="store_true", help="without the run that has no limits")
    parser.add_argument("--only-repositories", action="store_true", help="without DeployKeys and Collaborators")
    given = parser.parse_args()
    asyncio.run(
        main(given.repositories, given.scale, access=not given.only_repositories, baseline=not given.no_baseline)
    )
