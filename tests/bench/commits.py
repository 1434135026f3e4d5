"""``make bench-commits``: commits a minute on one branch and on many repositories, beside ``git push`` of the same trees.

The simulator answers after 100 ms, both the API and git. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bed import Bed, bed, new_tenants, row, say, say_where

from codecommon.api.bundle import Bundle, BundleFile
from codecommon.messaging.bundles import BundleStore, open_bundle_store
from codecommon.messaging.bus import Bus
from codecommon.process.settings import NatsSettings
from devstack.paths import RUNS
from devstack.resources import CODE_API, Manifest, is_ready
from devstack.scenario import Account, repository
from devstack.tenant import Tenant

TENANTS = 5
PUSHES_AT_ONCE = 8
WITHIN = 600.0


class Options(argparse.Namespace):
    one: int
    many: int
    latency: float


@dataclass(frozen=True)
class Site:
    """A Repository, and the account that it is of."""

    tenant: Tenant
    account: Account
    name: str


def options() -> Options:
    parser = argparse.ArgumentParser(description="Measure commits beside git push.")
    parser.add_argument("--one", type=int, default=20, help="commits on one branch")
    parser.add_argument("--many", type=int, default=50, help="repositories with a commit each")
    parser.add_argument("--latency", type=float, default=0.1, help="seconds of each answer of the host")
    return parser.parse_args(namespace=Options())


def usual(number: int) -> dict[str, str]:
    """Five texts of a few KiB, one of which each commit changes."""
    rng = random.Random(7)
    files = {f"src/part{part}.txt": "".join(rng.choices("abcdef \n", k=3000)) for part in range(4)}
    return {**files, f"src/new{number}.txt": f"{number}\n" * 500}


def largest() -> dict[str, str]:
    """As much as a bundle may have: 500 files, 16 MiB."""
    rng = random.Random(8)
    length = 16 * 1024 * 1024 // 500 - 64
    return {f"site/{number:03}.txt": "".join(rng.choices("abcdefgh \n", k=length)) for number in range(500)}


async def sites(made: Bed, count: int) -> list[Site]:
    tenants = await new_tenants(made, min(TENANTS, count))
    found: list[Site] = []
    for index, tenant in enumerate(tenants):
        account = await made.scenario.account("bench")
        await made.scenario.connect(tenant, account)
        for number in range(index, count, len(tenants)):
            name = f"bench-{number}"
            await tenant.create(repository(name, "acme", autoInit=True))
            found.append(Site(tenant, account, name))
    for site in found:
        await site.tenant.wait_for("repositories", site.name, is_ready, WITHIN)
    return found


def is_over(manifest: Manifest | None) -> bool:
    return manifest is not None and bool((manifest.get("status") or {}).get("completedAt"))


async def commit(bundles: BundleStore, site: Site, name: str, files: dict[str, str]) -> None:
    bundle = Bundle.build(BundleFile.of_text(path, text) for path, text in files.items())
    spec = {"repositoryRef": site.name, "source": {"bundleRef": {"name": bundle.name, "digest": bundle.digest}}}
    manifest = {"apiVersion": CODE_API, "kind": "RepositoryCommit", "metadata": {"name": name}, "spec": spec}
    taken = await site.tenant.create(manifest)
    await bundles.put(taken["metadata"]["annotations"]["kcp.io/cluster"], bundle)
    found = await site.tenant.wait_for("repositorycommits", name, is_over, WITHIN)
    assert found is not None
    assert found["status"]["phase"] == "Succeeded", found["status"]


async def git(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "bench", f"GIT_{role}_EMAIL": "bench@example.com"}
    process = await asyncio.create_subprocess_exec("git", *arguments, cwd=folder, env=environment)
    if await process.wait():
        raise SystemExit(f"git {arguments[0]} failed")


async def push(made: Bed, folder: Path, site: Site, files: dict[str, str]) -> None:
    """What a person does: clone once, then write, commit and push."""
    copy = folder / f"{site.account.login}-{site.name}"
    if not copy.exists():
        url = made.scenario.url.replace("://", f"://x:{site.account.token.value}@")
        await git(folder, "clone", "-q", f"{url}/{site.account.login}/{site.name}.git", str(copy))
    for path, text in files.items():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_text(text)
    await git(copy, "add", ".")
    await git(copy, "commit", "-qm", "by git")
    await git(copy, "push", "-q", "origin", "HEAD")


async def timed(work: Awaitable[Any]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


async def all_of(work: Iterable[Awaitable[Any]], at_once: int = 1000) -> None:
    gate = asyncio.Semaphore(at_once)

    async def one(single: Awaitable[Any]) -> None:
        async with gate:
            await single

    await asyncio.gather(*(one(single) for single in work))


async def in_turn(work: Iterable[Callable[[], Awaitable[Any]]]) -> None:
    for single in work:
        await single()


async def asked(made: Bed) -> Counter[str]:
    """Requests to the host by operation, since the journal was cleared."""
    entries = (await made.scenario.control.journal()).entries
    return Counter((entry.operation or "other").replace("/repos/{owner}/{repo}", "…") for entry in entries)


def shown(what: str, count: int, ours: float, theirs: float, requests: Counter[str]) -> None:
    row(
        what,
        f"{count / ours * 60:.0f} commits a minute",
        f"git push {count / theirs * 60:.0f} a minute, ratio {theirs / ours:.2f}",
    )
    row("  host requests a commit", f"{requests.total() / count:.1f}")
    for operation, number in requests.most_common(8):
        say(f"      {number / count:6.2f}  {operation}")


async def measure(made: Bed, bundles: BundleStore, folder: Path, wanted: Options) -> None:
    control = made.scenario.control
    every = await sites(made, wanted.many)
    await control.set_switches(latency=wanted.latency, primary_quota=None)
    first = every[0]

    theirs = await timed(in_turn(lambda n=n: push(made, folder, first, usual(1000 + n)) for n in range(wanted.one)))
    await control.clear_journal()
    ours = await timed(all_of(commit(bundles, first, f"one-{n}", usual(n)) for n in range(wanted.one)))
    shown(f"{wanted.one} commits on one branch", wanted.one, ours, theirs, await asked(made))

    await control.clear_journal()
    ours = await timed(all_of(commit(bundles, site, f"many-{site.name}", usual(2000)) for site in every))
    requests = await asked(made)
    theirs = await timed(all_of((push(made, folder, site, usual(3000)) for site in every[1:]), PUSHES_AT_ONCE))
    shown(f"a commit on each of {wanted.many} repositories", wanted.many, ours, theirs, requests)

    files = largest()
    await control.clear_journal()
    ours = await timed(commit(bundles, every[1], "largest", files))
    requests = await asked(made)
    theirs = await timed(push(made, folder, every[2], files))
    row(
        "500 files, 16 MiB, one commit",
        f"{ours:.1f} s",
        f"clone and git push {theirs:.1f} s, ratio {ours / theirs:.2f}",
    )
    row("  host requests", f"{requests.total()}")


@asynccontextmanager
async def store(made: Bed) -> AsyncIterator[BundleStore]:
    settings = NatsSettings(url=(made.nats.url,))
    async with Bus.connect(settings, "bench") as bus, open_bundle_store(bus) as bundles:
        yield bundles


async def main() -> None:
    wanted = options()
    folder = RUNS / "bench-commits"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "copies").mkdir(parents=True)
    say_where()
    async with bed(folder) as made, made.serving(), store(made) as bundles:
        await measure(made, bundles, folder / "copies", wanted)


if __name__ == "__main__":
    asyncio.run(main())
