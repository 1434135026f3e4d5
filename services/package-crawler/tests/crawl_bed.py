"""One workspace with a Connection, its git host in memory, and a crawl over them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from codecommon.api.meta import Condition
from codecommon.api.package import package_object_name
from codecommon.controller.delivery import Settlement
from codecommon.githost.protocol import PackageVersion
from codecommon.kcp.client import JsonObject
from codecommon.messaging.bus import Bus
from codecommon.messaging.events import ObjectEvent
from codecommon.testing.builders import (
    api_binding,
    event_for,
    made_repository,
    secret_object,
    validated_connection,
)
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import World
from codecommon.testing.records import InMemoryRecords
from package_crawler.crawl import Crawl
from package_crawler.fan_out import FanOut
from package_crawler.findings import Findings
from package_crawler.states import States

INTERVAL: Final = timedelta(minutes=2)
OWNER: Final = "octocat"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def image(number: int, *tags: str) -> PackageVersion:
    """A version that was published at minute ``number``."""
    return PackageVersion(digest(number), tags, f"2026-11-01T{number // 60:02}:{number % 60:02}:00Z")


class Bed:
    """``host``: what is published. ``run``: one look at an owner. ``told``: findings, by the object's name."""

    def __init__(self, world: World | None = None, *, organizations: tuple[str, ...] = ()) -> None:
        self.world = world or World(StubBackend(organizations=organizations))
        self.host = self.world.host
        self.time = datetime(2026, 11, 1, 12, tzinfo=UTC)
        self.records = InMemoryRecords()
        self.states = States(self.records)
        bus = cast(Bus, self.world.bus)
        findings = Findings(bus)
        self.crawl = Crawl(self.world.connections, self.states, findings, interval=INTERVAL, now=lambda: self.time)
        self.fan_out = FanOut(bus, findings, lambda: self.time)
        self.connection = self.world.add(secret_object(), api_binding(), validated_connection())

    def repository(self, name: str = "site", **fields: Any) -> str:
        """A repository on the host and the Repository object for it. Returns its id."""
        made = self.host.add_repository(OWNER, name, **fields)
        self.world.add(made_repository(name, repo_id=made.id))
        return made.id

    def publish(self, package_type: str, name: str, *versions: PackageVersion, repo: str | None) -> None:
        self.host.publish(OWNER, package_type, name, *versions, repository_id=repo)

    def event(self, owner: str = OWNER, **fields: Any) -> ObjectEvent:
        raw = self.world.stored("connections", "main")
        return replace(event_for(raw, reason="crawl", cluster=self.world.cluster), owner=owner, **fields)

    async def run(self, owner: str = OWNER, *, after: timedelta = INTERVAL) -> Settlement:
        """``after``: how much time passes before it."""
        self.time += after
        return await self.crawl.run(self.event(owner), self.world.objects)

    async def fan(self, **fields: Any) -> Settlement:
        return await self.fan_out.run(self.event("", **fields), self.world.objects)

    @property
    def packages(self) -> dict[tuple[str, str, str], JsonObject]:
        """The Package objects by Repository, type and name of the package."""
        found: dict[tuple[str, str, str], JsonObject] = {}
        for raw in self.objects:
            status = raw.get("status") or {}
            found[raw["spec"]["repositoryRef"], status.get("type", ""), status.get("packageName", "")] = raw
        return found

    @property
    def objects(self) -> list[JsonObject]:
        stored = self.world.kcp.stored_objects("packages", self.world.cluster)
        return sorted(stored, key=lambda raw: raw["metadata"]["name"])

    def status(self, name: str, package_type: str = "container", repository: str = "site") -> JsonObject:
        raw = self.world.stored("packages", package_object_name(repository, package_type, name))
        return cast(JsonObject, raw["status"])

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Method and name of the requests that wrote Packages since this was read last."""
        found = [(r.method, r.name or r.body["metadata"]["name"]) for r in self.world.kcp.writes("packages")]
        self.world.kcp.requests.clear()
        return found

    @property
    def told(self) -> dict[str, Condition]:
        """By kind and name."""
        events = [event for event in self.world.bus.published if event.reason == "found"]
        return {f"{event.resource}/{event.name}": event.finding for event in events if event.finding is not None}

    @property
    def reads(self) -> list[tuple[str, tuple[Any, ...]]]:
        """What the host was asked since this was read last."""
        found = list(self.host.reads)
        self.host.reads.clear()
        return found
