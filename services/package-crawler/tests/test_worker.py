"""The crawler's messages on a real nats-server; workspace and git host are in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from crawl_bed import OWNER, Bed, image

from codecommon.api.connection import Connection
from codecommon.controller.engine import Intake, Timing
from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import Bus
from codecommon.messaging.events import ObjectEvent, crawl_request
from codecommon.messaging.poison_messages import PoisonMessages
from codecommon.messaging.records import BucketRecords
from codecommon.process.backoff import Backoff
from codecommon.testing.builders import made_repository
from codecommon.testing.engine import until
from package_crawler.crawl import Crawl
from package_crawler.fan_out import FanOut
from package_crawler.findings import Findings
from package_crawler.states import States
from package_crawler.worker import CrawlWorker

pytestmark = pytest.mark.nats

INTERVAL = timedelta(seconds=0.4)


def _now() -> datetime:
    return datetime.now(UTC)


async def make_worker(bed: Bed, bus: Bus, interval: timedelta = INTERVAL) -> CrawlWorker:
    findings = Findings(bus)
    states = States(await BucketRecords.open(bus, bus_module.CRAWL_STATES))
    return CrawlWorker(
        bus=bus,
        kcp=bed.world.kcp,
        fan_out=FanOut(bus, findings, _now),
        crawl=Crawl(bed.world.connections, states, findings, interval=interval, now=_now),
        locks=await bus.bucket(bus_module.LOCKS),
        poison=PoisonMessages(await bus.bucket(bus_module.POISON_MESSAGES)),
        max_per_workspace=8,
        backoff=Backoff(0.05, 1.0),
    )


@asynccontextmanager
async def working(bed: Bed, bus: Bus, **options: Any) -> AsyncIterator[None]:
    """A replica at work; leaving the block stops it in an orderly way."""
    stopping = asyncio.Event()
    intake = Intake(bus_module.CRAWLER, bus=bus, max_in_flight=8, timing=Timing(fetch=0.1, renew=0.1))
    task = asyncio.create_task(intake.take(await make_worker(bed, bus, **options), stopping))
    try:
        yield
        stopping.set()
        async with asyncio.timeout(30):
            await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def subjects(bus: Bus) -> dict[str, int]:
    state = (await bus.js.stream_info(bus_module.EVENTS_STREAM, subjects_filter="code.*.crawls.>")).state
    return dict(state.subjects or {})


async def holds(bus: Bus, count: int) -> bool:
    return len(await subjects(bus)) == count


def lists_of(bed: Bed, owner: str = OWNER) -> int:
    return sum(method == "list_packages" and args[:2] == (owner, "npm") for method, args in bed.host.reads)


def crawl(bed: Bed, **fields: Any) -> ObjectEvent:
    return replace(bed.event(""), **fields)


async def test_a_changed_connection_is_looked_at_at_once_and_then_again_and_again(bus: Bus) -> None:
    bed = Bed()
    bed.publish("npm", "lib", repo=bed.repository())
    await bus.publish(crawl(bed))
    async with working(bed, bus):
        await until(lambda: len(bed.packages) == 1)
        await until(lambda: lists_of(bed) >= 3)
        assert await holds(bus, 1), "one message for the owner, which is put back"


async def test_a_connection_fans_out_to_one_job_for_each_owner(bus: Bus) -> None:
    bed = Bed(organizations=("acme", "globex"))
    for owner in (OWNER, "acme", "globex"):
        made = bed.host.add_repository(owner, f"of-{owner}")
        raw = made_repository(f"of-{owner}", repo_id=made.id)
        raw["status"]["owner"] = owner
        bed.world.add(raw)
        bed.host.publish(owner, "npm", "lib", repository_id=made.id)
    await bus.publish(crawl(bed))
    async with working(bed, bus, interval=timedelta(minutes=2)):
        await until(lambda: len(bed.packages) == 3)
        await until(lambda: holds(bus, 3))
    assert all(lists_of(bed, owner) == 1 for owner in (OWNER, "acme", "globex"))


async def test_a_restart_looks_at_nobody_before_their_time_and_a_resync_adds_no_second_job(bus: Bus) -> None:
    bed = Bed()
    bed.publish("npm", "lib", repo=bed.repository())
    await bus.publish(crawl(bed))
    async with working(bed, bus, interval=timedelta(minutes=2)):
        await until(lambda: lists_of(bed) == 1)
        await until(lambda: holds(bus, 1))
    (job,) = await subjects(bus)
    before = await bus.js.get_last_msg(bus_module.EVENTS_STREAM, job)
    await bus.publish(crawl(bed, reason="crawl-resync"))
    async with working(bed, bus, interval=timedelta(seconds=1)):
        await until(lambda: holds(bus, 1))
    assert lists_of(bed) == 1
    assert (await bus.js.get_last_msg(bus_module.EVENTS_STREAM, job)).seq == before.seq, "the job waits on"


async def test_a_resync_makes_the_job_that_was_lost(bus: Bus) -> None:
    bed = Bed()
    bed.publish("npm", "lib", repo=bed.repository())
    await bus.publish(crawl(bed, reason="crawl-resync"))
    async with working(bed, bus, interval=timedelta(minutes=2)):
        await until(lambda: len(bed.packages) == 1)


async def test_replicas_share_the_owners_and_none_is_looked_at_twice_at_once(bus: Bus) -> None:
    bed = Bed()
    repo = bed.repository()
    for number in range(30):
        bed.publish("container", f"site-{number}", image(1, "v1"), repo=repo)
    running, most = 0, 0
    real = bed.host.list_versions

    async def list_versions(package: Any) -> AsyncIterator[Any]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        async for page in real(package):
            yield page
        running -= 1

    bed.host.list_versions = list_versions  # type: ignore[method-assign]
    async with working(bed, bus), working(bed, bus):
        for _ in range(5):
            await bus.publish(crawl(bed))
            await asyncio.sleep(0)
        await until(lambda: len(bed.packages) == 30)
    assert most <= 4
    created = [r for r in bed.world.kcp.writes("packages") if r.method == "POST"]
    assert len(created) == 30, "nothing is made twice"


async def test_a_replica_that_dies_in_the_middle_leaves_nothing_missing_and_nothing_doubled(bus: Bus) -> None:
    bed = Bed()
    repo = bed.repository()
    for number in range(10):
        bed.publish("container", f"site-{number}", image(1, "v1"), repo=repo)
    stuck, real = asyncio.Event(), bed.host.list_versions

    async def hangs(package: Any) -> AsyncIterator[Any]:
        if len(bed.packages) >= 5:
            stuck.set()
            await asyncio.Event().wait()
        async for page in real(package):
            yield page

    bed.host.list_versions = hangs  # type: ignore[method-assign]
    config = (await bus.js.consumer_info(bus_module.EVENTS_STREAM, bus_module.CRAWLER)).config
    await bus.js.add_consumer(bus_module.EVENTS_STREAM, config.evolve(ack_wait=1.0))
    await bus.publish(crawl(bed))
    intake = Intake(bus_module.CRAWLER, bus=bus, max_in_flight=8, timing=Timing(fetch=0.1, renew=0.1))
    dying = asyncio.create_task(intake.take(await make_worker(bed, bus), asyncio.Event()))
    async with asyncio.timeout(30):
        await stuck.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    bed.host.list_versions = real  # type: ignore[method-assign]
    assert 5 <= len(bed.packages) < 10
    async with working(bed, bus):
        await until(lambda: len(bed.packages) == 10)
    created = [r for r in bed.world.kcp.writes("packages") if r.method == "POST"]
    assert len(created) == 10
    await bus.js.add_consumer(bus_module.EVENTS_STREAM, config)


async def test_a_request_has_the_owner_looked_at_often_for_a_while(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("package_crawler.fan_out.REQUEST_EVERY", timedelta(seconds=0.1))
    monkeypatch.setattr("package_crawler.fan_out.REQUEST_LASTS", timedelta(seconds=1))
    monkeypatch.setattr("package_crawler.decide.SHORTEST_GAP", timedelta(0))
    bed = Bed()
    bed.repository()
    await bus.publish(
        crawl_request(Connection.parse(bed.world.stored("connections", "main"), bed.world.objects.workspace))
    )
    async with working(bed, bus, interval=timedelta(minutes=2)):
        await until(lambda: lists_of(bed) >= 4)
        await until(lambda: holds(bus, 1))
    assert ".requested" not in "".join(await subjects(bus))


async def test_a_credential_without_the_right_is_told_and_not_tried(bus: Bus) -> None:
    bed = Bed()
    bed.repository()
    capability = {"name": "packages", "status": "No", "message": "the token lacks the scope read:packages"}
    bed.world.kcp.edit("connections", "main", {"status": {"tokenType": "classic", "capabilities": [capability]}})
    await bus.publish(crawl(bed))
    async with working(bed, bus):
        await until(lambda: holds(bus, 0))
    assert bed.host.reads == []
    stored = await bus.js.get_last_msg(bus_module.EVENTS_STREAM, "code.events.repositories.c1.site.found")
    finding = ObjectEvent.decode(stored.data or b"").finding
    assert finding is not None
    assert (finding.type, finding.status, finding.reason) == ("PackagesAvailable", "False", "MissingPermission")

    bed.world.kcp.edit("connections", "main", {"status": {"capabilities": [{"name": "packages", "status": "Yes"}]}})
    await bus.publish(crawl(bed))
    async with working(bed, bus):
        await until(lambda: lists_of(bed) >= 1)


async def test_what_is_no_crawl_is_set_aside(bus: Bus) -> None:
    bed = Bed()
    await bus.js.publish("code.events.crawls.c1.main", b"nonsense")
    async with working(bed, bus):
        await until(lambda: holds(bus, 0))
    assert (await bus.js.stream_info(bus_module.DEAD_STREAM)).state.messages >= 1
    await bus.js.purge_stream(bus_module.DEAD_STREAM)
