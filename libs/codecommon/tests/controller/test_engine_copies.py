"""The engine and the copy of an object that its event carries: when a decision begins with it, and what if it is stale."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from codecommon.api.meta import Workspace
from codecommon.api.repository import Repository
from codecommon.api.results import Outcome, Ready, Retryable
from codecommon.controller.context import ReconcileContext
from codecommon.kcp.client import JsonObject
from codecommon.messaging import object_copy
from codecommon.messaging.bus import Bus
from codecommon.messaging.events import ObjectEvent
from codecommon.process.backoff import Backoff
from codecommon.testing.builders import deleting, event_for, repository_object
from codecommon.testing.engine import Calls, acked, delivered, is_fine, put, raising, stored, until, working
from codecommon.testing.objects import InMemoryKcp

pytestmark = pytest.mark.nats


def event_with_copy(raw: JsonObject, *, ago: float = 0.0) -> ObjectEvent:
    """The event of a change that the watcher saw ``ago`` seconds ago."""
    seen_at = datetime.now(UTC) - timedelta(seconds=ago)
    return replace(event_for(raw), copy=object_copy.encode(raw), seen_at=seen_at)


def reads(kcp: InMemoryKcp) -> list[dict[str, str]]:
    """The parameters of each read of the object."""
    return [dict(r.params) for r in kcp.requests if not r.writes and r.resource == "repositories"]


async def worked_on(bus: Bus, kcp: InMemoryKcp, calls: Calls, event: ObjectEvent, **options: Any) -> int:
    """Work until the message is acknowledged; returns how often the lane of changes delivered it."""
    await bus.publish(event)
    async with working(bus, kcp, calls, **options):
        await until(lambda: acked(bus))
        return await delivered(bus)


async def test_a_first_delivery_is_decided_on_the_copy_and_reads_nothing(bus: Bus, kcp: InMemoryKcp) -> None:
    async def makes(ctx: ReconcileContext[Repository]) -> Outcome:
        assert ctx.object.spec.name == "site"
        await ctx.ensure_finalizer()
        return await is_fine(ctx)

    event = event_with_copy(put(kcp))
    assert event.copy
    await worked_on(bus, kcp, Calls(makes), event)
    assert [r.subresource for r in kcp.writes("repositories")] == ["", "status"]
    assert reads(kcp) == []
    assert stored(kcp)["status"]["repoID"] == "7"


async def test_a_copy_is_parsed_once(bus: Bus, kcp: InMemoryKcp, monkeypatch: pytest.MonkeyPatch) -> None:
    parse, parsed = Repository.parse, list[str]()

    def counted(raw: JsonObject, of: Workspace) -> Repository:
        parsed.append(raw["metadata"]["name"])
        return parse(raw, of)

    async def counts(ctx: ReconcileContext[Repository]) -> Outcome:
        assert parsed == ["site"]
        return await is_fine(ctx)

    event = event_with_copy(put(kcp))
    monkeypatch.setattr(Repository, "parse", counted)
    await worked_on(bus, kcp, Calls(counts), event)
    assert stored(kcp)["status"]["repoID"] == "7"


async def test_a_redelivery_reads_the_object(bus: Bus, kcp: InMemoryKcp) -> None:
    event = event_with_copy(put(kcp))
    calls = Calls(raising(Retryable("RateLimited", "m")))
    await worked_on(bus, kcp, calls, event, backoff=Backoff(0.01, 0.01))
    assert len(calls.names) == 2
    assert reads(kcp) == [{"resourceVersion": event.resource_version}]


def too_large(raw: JsonObject) -> ObjectEvent:
    return event_with_copy({**raw, "status": {"htmlURL": "x" * 40_000}})


def with_copy_of(raw: JsonObject, **changes: Any) -> ObjectEvent:
    """An event whose copy was changed on its way."""
    return replace(event_with_copy(raw), copy=orjson.dumps({**orjson.loads(object_copy.encode(raw)), **changes}))


@pytest.mark.parametrize(
    "make",
    [
        event_for,
        lambda raw: event_with_copy(raw, ago=60),
        lambda raw: event_with_copy(raw, ago=-60),
        too_large,
        lambda raw: with_copy_of(raw, spec={"connectionRef": "main", "name": "site", "visibility": "sideways"}),
        lambda raw: with_copy_of(raw, spec=["main"]),
        lambda raw: with_copy_of(raw, metadata=raw["metadata"] | {"uid": "uid-of-another"}),
        lambda raw: replace(event_with_copy(raw), reason="resync"),
    ],
    ids=["no copy", "old", "of the future", "too large", "of no model", "no spec", "of another", "of the resync"],
)
async def test_without_a_fresh_copy_of_the_object_it_is_read(bus: Bus, kcp: InMemoryKcp, make: Any) -> None:
    deliveries = await worked_on(bus, kcp, Calls(is_fine), make(put(kcp)))
    assert deliveries <= 1, "it is not put back"
    assert len(reads(kcp)) == 1
    assert stored(kcp)["status"]["repoID"] == "7"


async def test_an_object_that_is_being_deleted_is_read(bus: Bus, kcp: InMemoryKcp) -> None:
    raw = kcp.add(deleting(repository_object()))
    alive = {**raw, "metadata": {k: v for k, v in raw["metadata"].items() if k != "deletionTimestamp"}}
    await worked_on(bus, kcp, Calls(is_fine), replace(event_with_copy(alive), deleting=True))
    assert len(reads(kcp)) == 1


@pytest.mark.parametrize("writes_first", [True, False], ids=["at a write of metadata", "at the write of status"])
async def test_a_stale_copy_is_found_out_by_the_first_write_and_decided_anew_at_once(
    bus: Bus, kcp: InMemoryKcp, writes_first: bool
) -> None:
    seen: list[str | None] = []

    async def describes(ctx: ReconcileContext[Repository]) -> Outcome:
        seen.append(ctx.object.spec.description)
        if writes_first:
            await ctx.ensure_finalizer()
        return Ready({"owner": str(ctx.object.spec.description)})

    event = event_with_copy(put(kcp))
    kcp.edit("repositories", "site", {"spec": {"description": "new"}})
    await bus.publish(event)
    async with working(bus, kcp, Calls(describes)):
        await until(lambda: acked(bus))
        assert await delivered(bus) == 1, "it is not put back"
    assert seen == [None, "new"]
    assert reads(kcp) == [{}]
    assert (stored(kcp)["status"]["owner"], stored(kcp)["status"]["observedGeneration"]) == ("new", 2)


async def test_a_copy_of_an_object_that_is_gone_does_nothing(bus: Bus, kcp: InMemoryKcp) -> None:
    event = event_with_copy(put(kcp))
    kcp.remove("repositories", "site")
    await worked_on(bus, kcp, Calls(is_fine), event)
    assert kcp.stored("repositories", "site") is None
