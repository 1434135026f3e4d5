"""``make bench``: figures of the whole provider on a real kcp, nats-server and the GitHub simulator, with their baselines.

Nothing is asserted. Every figure stands beside one that was taken in the same run on the bare parts (kcp alone), because the
absolute ones are those of this machine.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nats
from bed import Bed, bed, new_tenants, row, say, say_where

from devstack.cluster import MERGE_PATCH, Cluster
from devstack.kubeconfig import load_access
from devstack.own_instance import EXPORT
from devstack.paths import RUNS, VENV_BIN
from devstack.processes import Process
from devstack.resources import Manifest, by_plural, condition, is_ready
from devstack.scenario import connection, repository, secret
from devstack.tenant import Tenant

WORKSPACES = 50
PER_WORKSPACE = 20
SINGLES = 30
MANY = 10_000
GAP_SECONDS = 0.2
"""Between single Repositories: all echoes of the one before are over. The longer it is, the colder the machine."""


def milliseconds(values: Sequence[float], quantile: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))] * 1000


async def virtual_workspace(bed: Bed) -> str:
    """The URL of the export's virtual workspace, as the provider finds it."""
    found = await bed.kcp.cluster(bed.provider.provisioned.cluster).get("apiexportendpointslices", EXPORT)
    assert found is not None
    url: str = found["status"]["endpoints"][0]["url"]
    return url


async def bare_calls(bed: Bed, tenant: Tenant) -> list[float]:
    """Seconds of the four calls to kcp that a Repository costs at least: the tenant's create, then GET, metadata patch and
    status patch by the provider's identity through the virtual workspace. As far apart as the Repositories."""
    access = load_access(Path(bed.provider.environment["KEDGE_PROVIDER_KUBECONFIG"]))
    server = f"{await virtual_workspace(bed)}/clusters/{tenant.cluster}"
    provider = Cluster(bed.kcp.session, replace(access, server=server))
    path = by_plural("repositories").path
    taken: list[float] = []
    for number in range(SINGLES):
        name = f"raw-{number}"
        manifest = repository(name, "nobody")
        manifest["metadata"]["annotations"] = {"code.kedge.faros.sh/paused": "true"}
        started = time.perf_counter()
        await tenant.create(manifest)
        created = time.perf_counter() - started
        await asyncio.sleep(GAP_SECONDS)
        started = time.perf_counter()
        await provider.request("GET", path(name))
        # One that the provider does not act on: it must not work beside what is measured.
        await provider.request("PATCH", path(name), {"metadata": {"annotations": {"bare": "yes"}}}, MERGE_PATCH)
        await provider.request("PATCH", path(name) + "/status", {"status": {"repoID": "1"}}, MERGE_PATCH)
        taken.append(created + time.perf_counter() - started)
        await tenant.delete("repositories", name)
    return taken


async def single(bed: Bed, tenant: Tenant) -> None:
    account = await bed.scenario.account("single")
    await bed.scenario.connect(tenant, account)
    baseline = await bare_calls(bed, tenant)
    times: list[float] = []
    for number in range(SINGLES):
        name = f"one-{number}"
        watching = asyncio.create_task(tenant.wait_for("repositories", name, is_ready, 30))
        await asyncio.sleep(GAP_SECONDS)
        started = time.perf_counter()
        await tenant.create(repository(name, "acme"))
        await watching
        times.append(time.perf_counter() - started)
    raw = statistics.median(baseline) * 1000
    row(
        "one idle Repository, create to Ready, 0 ms host",
        f"p50 {milliseconds(times, 0.5):.0f} ms, p99 {milliseconds(times, 0.99):.0f} ms",
        f"{milliseconds(times, 0.5) / raw:.1f} x the four calls to kcp alone ({raw:.0f} ms)",
        "goal 42 ms",
    )


async def late_secret(bed: Bed, tenants: list[Tenant]) -> None:
    times: list[float] = []
    for tenant in tenants:
        account = await bed.scenario.account("late")
        await tenant.apply(connection("late", account.login, bed.scenario.url))
        await tenant.wait_for("connections", "late", lambda c: condition(c or {}, "Ready") is not None)
        watching = asyncio.create_task(tenant.wait_for("connections", "late", is_ready, 30))
        await asyncio.sleep(0.3)
        started = time.perf_counter()
        await tenant.apply(secret("late-token", account.token.value))
        await watching
        times.append(time.perf_counter() - started)
    row("a Secret that arrives after its Connection", f"p50 {milliseconds(times, 0.5):.0f} ms", "", "goal 1 s")


async def burst(bed: Bed, tenants: list[Tenant]) -> None:
    accounts = [await bed.scenario.account("burst") for _ in tenants]
    await asyncio.gather(*(bed.scenario.connect(t, a, "burst") for t, a in zip(tenants, accounts, strict=True)))
    await bed.scenario.control.set_switches(latency=0.1)
    await bed.scenario.control.clear_journal()
    ready: dict[tuple[str, str], float] = {}
    created: dict[tuple[str, str], float] = {}

    async def follow(tenant: Tenant, names: set[str]) -> None:
        kind = by_plural("repositories")

        def note(item: Manifest) -> None:
            name = item["metadata"].get("name", "")
            if name in names and is_ready(item):
                ready[tenant.cluster, name] = time.perf_counter()
                names.discard(name)

        while names:
            found = await tenant.request("GET", kind.path())
            for item in found["items"]:
                note(item)
            # kcp ends a watch when it likes; what was missed is in the next list.
            async for _, item in tenant.watch(kind, found["metadata"]["resourceVersion"]):
                note(item)
                if not names:
                    return

    async def create(tenant: Tenant, name: str) -> None:
        async with gate:
            created[tenant.cluster, name] = time.perf_counter()
            await tenant.create(repository(name, "burst"))

    gate = asyncio.Semaphore(24)
    names = [f"burst-{number}" for number in range(PER_WORKSPACE)]
    async with asyncio.timeout(300):
        followers = [asyncio.create_task(follow(tenant, set(names))) for tenant in tenants]
        await asyncio.sleep(1)
        started = time.perf_counter()
        await asyncio.gather(*(create(tenant, name) for name in names for tenant in tenants))
        all_created = time.perf_counter() - started
        await asyncio.gather(*followers)
    total = max(ready.values()) - started
    waits = [at - created[key] for key, at in ready.items()]
    journal = await bed.scenario.control.journal()
    await bed.scenario.control.set_switches(latency=0.0)
    count = len(tenants) * PER_WORKSPACE
    row(
        f"{count} Repositories in {len(tenants)} workspaces, 100 ms host",
        f"{total:.1f} s",
        f"{total / all_created:.1f} x creating the objects ({all_created:.1f} s)",
        "goal 24 s (Go: 241 s)",
    )
    row(
        "  of each, create to Ready",
        f"p50 {milliseconds(waits, 0.5) / 1000:.1f} s, p99 {milliseconds(waits, 0.99) / 1000:.1f} s",
    )
    row(
        "  host requests",
        f"{journal.total} ({journal.total / count:.1f} each)",
        f"at most {journal.max_in_flight} at once",
    )


def proportional(pid: int) -> float:
    """Proportional set size in MiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:"))) / 1024


def resident(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS:"))) / 1024


def family(pid: int) -> list[int]:
    children = [int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
    return [pid, *(member for child in children for member in family(child))]


def memory(serve: Process, when: str) -> None:
    sizes = [proportional(pid) for pid in family(serve.pid)]
    shown = f"{sum(sizes):.0f} MiB PSS in {len(sizes)} processes"
    row(f"memory of code-provider serve, {when}", shown, "", "goal 350 MiB")


async def alone(bed: Bed) -> None:
    """Each service as a process of its own, as in production."""
    environment = {
        **bed.provider.environment,
        **bed.nats.environment,
        "CODE_ALLOWED_GIT_HOSTS": bed.simulator.url,
    }
    for service, goal in (("watcher", 140), ("connection-svc", 140), ("repository-svc", 140), ("gateway", 200)):
        log = bed.provider.folder / f"alone-{service}.log"
        async with Process(service, [VENV_BIN / service], log_file=log, env=environment) as process:
            await _said(log, '"started"', "started")
            row(
                f"memory of {service} alone, started",
                f"{resident(process.pid):.0f} MiB resident",
                "",
                f"goal {goal} MiB",
            )


async def _said(log: Path, *words: str) -> None:
    async with asyncio.timeout(60):
        while not (log.exists() and any(word in log.read_text() for word in words)):
            await asyncio.sleep(0.05)


async def after_restart(bed: Bed, tenant: Tenant) -> None:
    """Call right after everything was started again, with what the burst left."""
    started = time.perf_counter()
    await tenant.create(repository("after-restart", "burst"))
    await tenant.wait_for("repositories", "after-restart", is_ready, 120)
    taken = time.perf_counter() - started
    row(
        "a new Repository right after a restart, 1,000 objects",
        f"{taken * 1000:.0f} ms",
        "",
        "goal 2 s (Go: over 60 s)",
    )


async def watcher_start(bed: Bed, tenants: list[Tenant]) -> None:
    gate = asyncio.Semaphore(24)

    async def create(number: int) -> None:
        async with gate:
            await tenants[number % len(tenants)].create(repository(f"many-{number}", "nobody"))

    say(f"making {MANY} objects …")
    await asyncio.gather(*map(create, range(MANY)))
    connection_to_nats = await nats.connect(bed.nats.url)
    js = connection_to_nats.jetstream()
    await js.purge_stream("CODE_EVENTS")
    baseline = await streaming_list(bed)
    environment = {**bed.provider.environment, **bed.nats.environment}
    log = bed.provider.folder / "watcher-alone.log"
    started = time.perf_counter()
    async with (
        Process("watcher", [VENV_BIN / "watcher"], log_file=log, env=environment) as process,
        asyncio.timeout(120),
    ):
        while (count := (await js.stream_info("CODE_EVENTS")).state.messages) < MANY:
            await asyncio.sleep(0.02)
        taken = time.perf_counter() - started
        row(
            f"watcher start to all published, {MANY} objects",
            f"{taken:.1f} s",
            f"{taken / baseline:.1f} x kcp's own streaming list ({baseline:.1f} s); {count} events",
            "goal 3 s",
        )
        row("memory of the watcher with these", f"{resident(process.pid):.0f} MiB resident", "", "goal 140 MiB")
    await connection_to_nats.close()


async def streaming_list(bed: Bed) -> float:
    """Seconds that kcp takes for its own streaming list of all Repositories over the virtual workspace."""
    provider = bed.kcp.cluster(bed.provider.provisioned.cluster)
    url = f"{await virtual_workspace(bed)}/clusters/*/apis/code.kedge.faros.sh/v1alpha1/repositories"
    params = {
        "watch": "1",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    headers = {"Authorization": f"Bearer {provider.access.token}"}
    started = time.perf_counter()
    async with bed.kcp.session.get(url, params=params, headers=headers, ssl=provider.access.tls or True) as response:
        tail = b""
        async for chunk in response.content.iter_any():
            if b"k8s.io/initial-events-end" in tail + chunk:
                break
            tail = chunk[-64:]
    return time.perf_counter() - started


async def main(only: set[str]) -> None:
    say_where()
    folder = RUNS / f"bench-{os.getpid()}"
    try:
        async with bed(folder) as made:
            tenants = await new_tenants(made, WORKSPACES)
            async with made.serving() as serve:
                memory(serve, "idle")
                if not only or "single" in only:
                    await single(made, tenants[0])
                if not only or "secret" in only:
                    await late_secret(made, tenants[:10])
                if not only or "burst" in only:
                    await burst(made, tenants)
                    memory(serve, "after the burst")
            if not only or "restart" in only:
                async with made.serving():
                    await after_restart(made, tenants[0])
            if not only or "alone" in only:
                await alone(made)
            if not only or "watcher" in only:
                await watcher_start(made, tenants)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main(set(sys.argv[1:])))
