"""Composition root of package-crawler: the only place that constructs clients."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from codecommon.controller.composition import host_clients
from codecommon.controller.engine import Intake
from codecommon.messaging import bus as bus_module
from codecommon.messaging.poison_messages import PoisonMessages
from codecommon.messaging.records import BucketRecords
from codecommon.process.service import Service
from package_crawler.crawl import Crawl
from package_crawler.fan_out import FanOut
from package_crawler.findings import Findings
from package_crawler.settings import CrawlerSettings
from package_crawler.states import States
from package_crawler.worker import CrawlWorker

_MOST_AT_ONCE: Final = 8
"""Owners. Each may hold the rows of thousands of packages, and all share the part of a host's budget that crawls have."""

_PART_OF_A_WORKSPACE: Final = 4
"""A first look at thousands of packages takes minutes, so a workspace has a quarter of the places."""

KEPT_BYTES: Final = 96 * 1024 * 1024
"""Of answers. The versions of 5,000 packages are 25 MiB with what each answer costs, and one workspace has half of it all."""


def _now() -> datetime:
    return datetime.now(UTC)


async def main(service: Service[CrawlerSettings]) -> None:
    settings = service.settings
    at_once = min(settings.max_in_flight, _MOST_AT_ONCE)
    async with host_clients(service, max_in_flight=at_once, kept_bytes=KEPT_BYTES) as clients:
        bus = clients.bus
        findings = Findings(bus)
        worker = CrawlWorker(
            bus=bus,
            kcp=clients.kcp,
            fan_out=FanOut(bus, findings, _now),
            crawl=Crawl(
                clients.connections,
                States(await BucketRecords.open(bus, bus_module.CRAWL_STATES)),
                findings,
                interval=settings.crawl_interval,
                now=_now,
            ),
            locks=await bus.bucket(bus_module.LOCKS),
            poison=PoisonMessages(await bus.bucket(bus_module.POISON_MESSAGES)),
            max_per_workspace=min(settings.max_in_flight_per_workspace, max(1, at_once // _PART_OF_A_WORKSPACE)),
        )
        service.ready()
        await Intake(service.name, bus=bus, max_in_flight=at_once).take(worker, service.stopping)
