"""``make bench-crawl``: what a look at an owner's packages costs the host, and how long it takes.

The crawler runs on a real nats-server and asks the simulator over HTTP. The workspaces are in memory, so kcp is not measured.
Beside our requests stand those of the method that lists six types for every repository, taken in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from bed import row, say, say_where

from codecommon.controller.connections import Connections
from codecommon.controller.engine import Intake, Timing
from codecommon.githost import registry as hosts
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.shares import HostShares
from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import Bus
from codecommon.messaging.events import ObjectEvent
from codecommon.messaging.poison_messages import PoisonMessages
from codecommon.messaging.records import BucketRecords
from codecommon.process.settings import NatsSettings
from codecommon.testing.builders import api_binding, event_for, made_repository, secret_object, validated_connection
from codecommon.testing.objects import InMemoryKcp, workspace
from devstack.githubsim.control import SimControl
from devstack.nats import NatsServer
from devstack.paths import RUNS
from devstack.simulator import SimulatorProcess
from package_crawler.app import KEPT_BYTES
from package_crawler.crawl import Crawl
from package_crawler.decide import AVAILABLE, SHORTEST_GAP
from package_crawler.fan_out import FanOut
from package_crawler.findings import Findings
from package_crawler.states import States
from package_crawler.worker import CrawlWorker

TYPES = ("container", "npm", "maven", "rubygems", "nuget", "docker")
SCOPES = ["repo", "read:packages"]
OWNERS = 40
LATENCY_SECONDS = 0.1
AT_ONCE = 1
"""Owners that a replica looks at in the comparison of replicas. With more, the processors decide here, and not the host."""
INTERVAL = timedelta(minutes=2)
MANY = 5_000
BOUND_SECONDS = 900


class Options(argparse.Namespace):
    repositories: list[int]
    packages: int
    replica: list[str] | None


def options() -> Options:
    parser = argparse.ArgumentParser(description="Requests and time of looks at the packages of owners.")
    parser.add_argument("--repositories", type=int, nargs="+", default=[1, 100, 1_000])
    parser.add_argument("--packages", type=int, default=MANY)
    parser.add_argument("--replica", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args(namespace=Options())


class Clock:
    """The time of day of the crawlers here. It begins a minute ahead, so that nothing counts as published a moment ago."""

    def __init__(self) -> None:
        self._ahead = timedelta(minutes=1)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def until_due(self) -> None:
        """Let the seconds pass at once within which no other look follows. In more time the turns of many versions would come."""
        self._ahead += SHORTEST_GAP


# ---- a crawler on a workspace in memory


class Tenancy:
    """Workspaces in memory, each with one Connection and the Repositories of its owner."""

    def __init__(self, url: str) -> None:
        self.kcp = InMemoryKcp()
        self._url = url

    def add(self, cluster: str, owner: str, token: str, repositories: Sequence[tuple[str, str]]) -> None:
        """``repositories``: names and ids."""
        host = self._url.removeprefix("http://")
        self.kcp.add(secret_object(token=token), cluster)
        self.kcp.add(api_binding(), cluster)
        self.kcp.add(validated_connection(owner=owner, baseURL=self._url), cluster)
        for name, repo_id in repositories:
            raw = made_repository(name, repo_id=repo_id)
            raw["status"] |= {"host": host, "owner": owner}
            self.kcp.add(raw, cluster)

    def event(self, cluster: str, owner: str) -> ObjectEvent:
        raw = self.kcp.stored("connections", "main", cluster)
        assert raw is not None
        return replace(event_for(raw, reason="crawl", cluster=cluster), owner=owner)

    def told(self, cluster: str) -> None:
        """repository-svc has written down that packages are mirrored."""
        shown = {**AVAILABLE.model_dump(by_alias=True), "lastTransitionTime": "2026-11-01T00:00:00Z"}
        for raw in self.kcp.stored_objects("repositories", cluster):
            conditions = [*raw["status"]["conditions"], shown]
            self.kcp.edit("repositories", raw["metadata"]["name"], {"status": {"conditions": conditions}}, cluster)

    def packages(self, cluster: str) -> int:
        return len(self.kcp.stored_objects("packages", cluster))


@asynccontextmanager
async def crawler(
    bus: Bus, url: str, kcp: InMemoryKcp, interval: timedelta, now: Clock
) -> AsyncIterator[tuple[Crawl, CrawlWorker]]:
    async with hosts.open_registry([url], bus, {}, ProxyRules(), HostShares(64), kept_bytes=KEPT_BYTES) as registry:
        connections = Connections(registry, bus=bus, credentials_namespace="default")
        findings = Findings(bus)
        states = States(await BucketRecords.open(bus, bus_module.CRAWL_STATES))
        crawl = Crawl(connections, states, findings, interval=interval, now=now)
        worker = CrawlWorker(
            bus=bus,
            kcp=kcp,
            fan_out=FanOut(bus, findings, now),
            crawl=crawl,
            locks=await bus.bucket(bus_module.LOCKS),
            poison=PoisonMessages(await bus.bucket(bus_module.POISON_MESSAGES)),
            max_per_workspace=8,
        )
        yield crawl, worker


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Bus]:
    async with Bus.connect(NatsSettings(url=(url,))) as bus:
        await bus.declare()
        yield bus


async def owner_with(control: SimControl, owner: str, repositories: int) -> tuple[str, list[tuple[str, str]]]:
    """An account with that many repositories. Returns its token, and the names and ids of the repositories."""
    await control.create_user(owner)
    gate = asyncio.Semaphore(16)

    async def one(number: int) -> tuple[str, str]:
        async with gate:
            made = await control.create_repository(owner, f"repo-{number}")
            return made.name, str(made.id)

    made = await asyncio.gather(*(one(number) for number in range(repositories)))
    return (await control.create_token(owner, scopes=SCOPES)).value, made


# ---- host requests


async def counted(control: SimControl) -> Counter[str]:
    entries = (await control.journal()).entries
    return Counter("304" if entry.not_modified else str(entry.status) for entry in entries)


async def per_repository(url: str, owner: str, token: str, repositories: int) -> None:
    """The lists of the method that asks for every repository: six types, the first page each."""
    gate = asyncio.Semaphore(8)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=f"{url}/api/v3", headers=headers, timeout=60, trust_env=False) as client:

        async def one(package_type: str) -> None:
            async with gate:
                params = {"package_type": package_type, "per_page": 100}
                (await client.get(f"/users/{owner}/packages", params=params)).raise_for_status()

        await asyncio.gather(*(one(package_type) for _ in range(repositories) for package_type in TYPES))


async def requests(bus: Bus, simulator: SimulatorProcess, control: SimControl, repositories: int) -> None:
    owner, cluster = f"requests-{repositories}", f"requests{repositories}"
    token, made = await owner_with(control, owner, repositories)
    names = [name for name, _ in made]
    await control.publish_many(owner, repositories, repositories=names, prefix="image")
    await control.publish_many(owner, repositories, repositories=names, package_type="npm", prefix="lib")
    tenancy = Tenancy(simulator.url)
    tenancy.add(cluster, owner, token, made)
    event, objects = tenancy.event(cluster, owner), tenancy.kcp.objects(workspace(cluster))
    say(f"{repositories} repositories of one owner, with a container and an npm package each")
    clock = Clock()
    async with crawler(bus, simulator.url, tenancy.kcp, INTERVAL, clock) as (crawl, _):
        for what in ("cold", "warm"):
            await control.clear_journal()
            began = time.perf_counter()
            await crawl.run(event, objects)
            taken = time.perf_counter() - began
            ours = await counted(control)
            tenancy.told(cluster)
            goal = f"goal: {len(TYPES) + 2 * (repositories // 100)} lists" if what == "warm" else ""
            if what == "warm":
                await control.clear_journal()
                await per_repository(simulator.url, owner, token, repositories)
                theirs = await counted(control)
                beside = f"{theirs.total()} by repository (200: {theirs['200']}, 304: {theirs['304']})"
            else:
                beside = ""
            row(f"  requests, {what}", f"200: {ours['200']}, 304: {ours['304']}", beside, goal)
            row(f"  seconds, {what}", f"{taken:.2f}")
            clock.until_due()
    assert tenancy.packages(cluster) == 2 * repositories


# ---- replicas


async def replica(nats_url: str, url: str, *accounts: str) -> None:
    """One process of the comparison. ``accounts``: owner, token and repository id, one after the other."""
    tenancy = Tenancy(url)
    for number in range(0, len(accounts), 3):
        owner, token, repo_id = accounts[number : number + 3]
        tenancy.add(f"c{number // 3}", owner, token, [("site", repo_id)])
    async with connected(nats_url) as bus, crawler(bus, url, tenancy.kcp, timedelta(hours=1), Clock()) as (_, worker):
        intake = Intake(bus_module.CRAWLER, bus=bus, max_in_flight=AT_ONCE, timing=Timing(fetch=0.5))
        await intake.take(worker, asyncio.Event())


@dataclass(frozen=True)
class Cycle:
    """One look at every owner. In seconds; those of the processors by who used them."""

    taken: float
    replicas: float
    simulator: float
    client: float

    @property
    def used(self) -> str:
        return f"replicas {self.replicas:.1f}, simulator {self.simulator:.1f}, this client {self.client:.1f}"


def processor_seconds(*pids: int) -> float:
    fields = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(user) + int(system) for user, system in (row[11:13] for row in fields)) / os.sysconf("SC_CLK_TCK")


async def looks_at_all(bus: Bus, events: Sequence[ObjectEvent]) -> float:
    """Publish the events, and return the seconds until the state after a look is stored for each.

    It is told of each state. To ask for them again and again takes a part of the processors, and that counts here.
    """
    states, looked_at = f"KV_{bus_module.CRAWL_STATES}", set[str]()
    await bus.js.purge_stream(states)
    stored = await bus.nc.subscribe(f"$KV.{bus_module.CRAWL_STATES}.>")
    try:
        began = time.perf_counter()
        for event in events:
            await bus.publish(event)
        while len(looked_at) < len(events):
            looked_at.add((await stored.next_msg(timeout=None)).subject)
        return time.perf_counter() - began
    finally:
        await stored.unsubscribe()


async def cycle(
    bus: Bus, nats_url: str, simulator: SimulatorProcess, accounts: Sequence[tuple[str, str, str]], count: int
) -> Cycle:
    """How ``count`` replicas look at every owner once, after they have all been at work."""
    url = simulator.url
    flat = [part for account in accounts for part in account]
    command = [sys.executable, __file__, "--replica", nats_url, url, *flat]
    replicas = [await asyncio.create_subprocess_exec(*command) for _ in range(count)]
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            while (await bus.js.consumer_info(bus_module.EVENTS_STREAM, bus_module.CRAWLER)).num_waiting != count:
                await asyncio.sleep(0.1)
            tenancy = Tenancy(url)
            for number, (owner, token, repo_id) in enumerate(accounts):
                tenancy.add(f"c{number}", owner, token, [("site", repo_id)])
            events = [tenancy.event(f"c{number}", owner) for number, (owner, *_) in enumerate(accounts)]
            # In the first round each process loads what it needs, which takes longer than the requests.
            await looks_at_all(bus, events)
            pids = [process.pid for process in replicas], [simulator.process.pid], [os.getpid()]
            before = [processor_seconds(*group) for group in pids]
            taken = await looks_at_all(bus, events)
            used = [processor_seconds(*group) - so_far for group, so_far in zip(pids, before, strict=True)]
            return Cycle(taken, *used)
    finally:
        for process in replicas:
            process.terminate()
        await asyncio.gather(*(process.wait() for process in replicas))
        await bus.js.purge_stream(bus_module.EVENTS_STREAM)
        for name in (bus_module.CRAWL_STATES, bus_module.LOCKS, bus_module.POISON_MESSAGES):
            await bus.js.purge_stream(f"KV_{name}")


async def replicas(bus: Bus, nats_url: str, simulator: SimulatorProcess, control: SimControl) -> None:
    accounts: list[tuple[str, str, str]] = []
    for number in range(OWNERS):
        token, made = await owner_with(control, f"owner-{number}", 1)
        await control.publish_package(f"owner-{number}", "npm", "lib", repository=made[0][0])
        accounts.append((f"owner-{number}", token, made[0][1]))
    await control.set_switches(latency=LATENCY_SECONDS)
    one = await cycle(bus, nats_url, simulator, accounts, 1)
    four = await cycle(bus, nats_url, simulator, accounts, 4)
    await control.set_switches(latency=0.0)
    say(f"{OWNERS} owners, {LATENCY_SECONDS * 1000:.0f} ms for each request, {AT_ONCE} owners at once in a replica")
    row("  seconds with 1 replica", f"{one.taken:.2f}")
    row(
        "  seconds with 4 replicas",
        f"{four.taken:.2f}",
        f"{one.taken / four.taken:.2f} times as fast",
        "goal: 3.5 times",
    )
    row("  of the processors with 1", f"{one.replicas + one.simulator + one.client:.1f}", one.used)
    row("  of the processors with 4", f"{four.replicas + four.simulator + four.client:.1f}", four.used)


# ---- memory and time


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@asynccontextmanager
async def peak() -> AsyncIterator[list[float]]:
    """The largest resident memory within the block, in MiB."""
    seen = [resident_mib()]

    async def look() -> None:
        while True:
            seen[0] = max(seen[0], resident_mib())
            await asyncio.sleep(0.05)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def many(bus: Bus, simulator: SimulatorProcess, control: SimControl, count: int) -> None:
    owner, cluster = "many", "many"
    token, made = await owner_with(control, owner, 10)
    await control.publish_many(owner, count, repositories=[name for name, _ in made], versions=3)
    tenancy = Tenancy(simulator.url)
    tenancy.add(cluster, owner, token, made)
    event, objects = tenancy.event(cluster, owner), tenancy.kcp.objects(workspace(cluster))
    say(f"{count} container packages of one owner, three versions each; the memory of the workspace is in the figures")
    clock = Clock()
    async with crawler(bus, simulator.url, tenancy.kcp, INTERVAL, clock) as (crawl, _):
        for what in ("cold", "warm"):
            tenancy.kcp.requests.clear()
            before = resident_mib()
            await control.clear_journal()
            began = time.perf_counter()
            async with peak() as seen:
                await crawl.run(event, objects)
            taken, asked = time.perf_counter() - began, await counted(control)
            tenancy.told(cluster)
            row(f"  {what}: seconds", f"{taken:.1f}", f"200: {asked['200']}, 304: {asked['304']}")
            row(f"  {what}: MiB at the peak", f"{seen[0]:.0f}", f"{before:.0f} before")
            clock.until_due()
    row("  Packages", str(tenancy.packages(cluster)))


async def main(wanted: Options) -> None:
    if wanted.replica:
        await replica(*wanted.replica)
        return
    say_where()
    folder = Path(RUNS / f"bench-{os.getpid()}")
    try:
        async with AsyncExitStack() as exits:
            server = await exits.enter_async_context(NatsServer(folder / "nats"))
            simulator = await exits.enter_async_context(SimulatorProcess(folder / "githubsim"))
            control = await exits.enter_async_context(SimControl(simulator.url))
            bus = await exits.enter_async_context(connected(server.url))
            await control.set_switches(primary_quota=1_000_000)
            for repositories in wanted.repositories:
                await requests(bus, simulator, control, repositories)
            for name in (bus_module.CRAWL_STATES, bus_module.LOCKS):
                await bus.js.purge_stream(f"KV_{name}")
            await bus.js.purge_stream(bus_module.EVENTS_STREAM)
            await replicas(bus, server.url, simulator, control)
            await many(bus, simulator, control, wanted.packages)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(main(options()))
