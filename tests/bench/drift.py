"""``make bench-drift``: what one drift pass over everything costs the host, cold and with the answers of the pass before.

The services are started anew before the first pass, so that their memory is empty. A pass is one resync interval, in which each
object has its turn once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
from collections import Counter
from pathlib import Path

from bed import Bed, bed, new_tenants, row, say, say_where

from devstack.githubsim.journal import Entry
from devstack.paths import RUNS
from devstack.resources import CODE_API, Manifest, is_ready
from devstack.scenario import repository
from devstack.tenant import Tenant

PER_WORKSPACE = 50
OBJECTS_PER_SECOND = 20
SHORTEST_PASS_SECONDS = 30
READY_SECONDS = 600
START_SECONDS = 5
"""From the services' readiness to the watcher's first turn of the schedule."""


class Options(argparse.Namespace):
    repositories: int
    keys: int
    collaborators: int

    @property
    def objects(self) -> int:
        return self.repositories * (1 + self.keys + self.collaborators)


def options() -> Options:
    parser = argparse.ArgumentParser(description="Count host requests of two drift passes.")
    parser.add_argument("--repositories", type=int, default=100)
    parser.add_argument("--keys", type=int, default=0, help="of each repository")
    parser.add_argument("--collaborators", type=int, default=0, help="of each repository")
    return parser.parse_args(namespace=Options())


def child(kind: str, name: str, repository_ref: str, **spec: object) -> Manifest:
    fields = {"repositoryRef": repository_ref, **spec}
    return {"apiVersion": CODE_API, "kind": kind, "metadata": {"name": name}, "spec": fields}


def children(name: str, keys: int, people: list[str]) -> list[Manifest]:
    return [
        *(child("DeployKey", f"{name}-key-{n}", name, title=f"key {n}", readOnly=n > 0) for n in range(keys)),
        *(child("Collaborator", f"{name}-{p}", name, username=p, permission="push") for p in people),
    ]


async def fill(made: Bed, wanted: Options) -> None:
    """Make all objects, and return once they are ready."""
    people = [(await made.scenario.account("colleague")).login for _ in range(wanted.collaborators)]
    tenants = await new_tenants(made, -(-wanted.repositories // PER_WORKSPACE))
    gate = asyncio.Semaphore(24)
    plurals = {"Repository": "repositories", "DeployKey": "deploykeys", "Collaborator": "collaborators"}

    async def one(tenant: Tenant, manifest: Manifest) -> None:
        async with gate:
            await tenant.create(manifest)
        plural, name = plurals[manifest["kind"]], manifest["metadata"]["name"]
        if manifest["kind"] != "Collaborator":
            await tenant.wait_for(plural, name, is_ready, READY_SECONDS)

    async with asyncio.TaskGroup() as group:
        for index, tenant in enumerate(tenants):
            account = await made.scenario.account("drift")
            await made.scenario.connect(tenant, account)
            for number in range(index, wanted.repositories, len(tenants)):
                name = f"drift-{number}"
                for manifest in (repository(name, "acme"), *children(name, wanted.keys, people)):
                    group.create_task(one(tenant, manifest))


async def one_pass(made: Bed, seconds: float) -> list[Entry]:
    """What the host was asked within one resync interval."""
    await made.scenario.control.clear_journal()
    await asyncio.sleep(seconds)
    return (await made.scenario.control.journal()).entries


def report(what: str, entries: list[Entry], objects: int) -> None:
    hits = sum(entry.not_modified for entry in entries)
    writes = sum(entry.method not in ("GET", "HEAD") for entry in entries)
    share = hits / len(entries) if entries else 0.0
    row(
        what,
        f"{len(entries)} ({len(entries) / objects:.2f} an object)",
        f"{hits} of them 304 ({share:.0%}), so {len(entries) - hits} count",
        f"{writes} writes",
    )
    for method, count in Counter(f"{e.method} {e.operation or e.path}" for e in entries).most_common():
        row(f"  {method}", str(count))


async def main(wanted: Options) -> None:
    say_where()
    seconds = max(SHORTEST_PASS_SECONDS, wanted.objects / OBJECTS_PER_SECOND)
    folder = Path(RUNS / f"bench-{os.getpid()}")
    try:
        async with bed(folder) as made:
            say(f"making {wanted.objects} objects …")
            async with made.serving({"CODE_RESYNC_INTERVAL": "24h"}):
                await fill(made, wanted)
            async with made.serving({"CODE_RESYNC_INTERVAL": f"{seconds:g}s"}):
                await asyncio.sleep(START_SECONDS)
                report("host requests of the first pass", await one_pass(made, seconds), wanted.objects)
                report("host requests of the second pass", await one_pass(made, seconds), wanted.objects)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main(options()))
