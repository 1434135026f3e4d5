"""What NATS holds of clusters that have departed, on a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from codecommon.api.bundle import Bundle, BundleFile
from codecommon.messaging.bundles import DirectoryBundles
from codecommon.messaging.bus import EVENTS_STREAM, Bus, BusUnavailable
from codecommon.messaging.events import EventReason, ObjectEvent
from codecommon.process.settings import NatsSettings
from codecommon.testing.clock import Clock
from devstack.nats import NatsServer
from watcher.departed import GRACE_SECONDS, SETTLE_SECONDS, SWEEP_SECONDS, DepartedClusters, run

pytestmark = pytest.mark.nats

ENDPOINT = "https://kcp/services/apiexport/p/e"


def event(cluster: str, name: str = "repo", reason: EventReason = "changed", endpoint: str = ENDPOINT) -> ObjectEvent:
    return ObjectEvent(
        resource="repositories",
        cluster=cluster,
        name=name,
        uid=f"uid-{cluster}-{name}",
        generation=1,
        resource_version="1",
        deleting=False,
        reason=reason,
        endpoint=endpoint,
    )


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with Bus.connect(NatsSettings(url=(nats_server.url,))) as connected:
        await connected.declare()
        yield connected


@pytest.fixture
def bound() -> set[str]:
    return set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def departed(bus: Bus, bound: set[str], clock: Clock, tmp_path: Path) -> DepartedClusters:
    return DepartedClusters(ENDPOINT, bus, DirectoryBundles(tmp_path), bound.__contains__, clock)


async def subjects(bus: Bus) -> set[str]:
    info = await bus.js.stream_info(EVENTS_STREAM, subjects_filter=">")
    return set(info.state.subjects or ())


async def test_both_lanes_of_a_departed_cluster_are_purged_after_the_grace_and_others_are_not(
    bus: Bus, departed: DepartedClusters, clock: Clock, bound: set[str]
) -> None:
    bound |= {"c1", "c2"}
    await departed.purge_due()
    for cluster in ("c1", "c2"):
        await bus.publish(event(cluster))
        await bus.publish(event(cluster, "another.name", "resync"))
    bound.remove("c1")
    departed.add("c1")
    # A publish that was under way arrives late.
    await bus.publish(event("c1", "late"))
    await departed.purge_due()
    assert len(await subjects(bus)) == 5
    clock.advance(GRACE_SECONDS)
    await departed.purge_due()
    assert await subjects(bus) == {event("c2").subject, event("c2", "another.name", "resync").subject}


async def test_a_cluster_that_has_bound_again_loses_nothing(
    bus: Bus, departed: DepartedClusters, clock: Clock, bound: set[str]
) -> None:
    departed.add("c1")
    bound.add("c1")
    await bus.publish(event("c1", "of-the-new-binding"))
    clock.advance(SWEEP_SECONDS)
    await departed.purge_due()
    bound.clear()
    clock.advance(GRACE_SECONDS)
    await departed.purge_due()
    assert await subjects(bus) == {event("c1", "of-the-new-binding").subject}, "the departure is over"


async def test_what_is_published_for_a_new_binding_while_the_purge_is_on_its_way_is_kept(
    bus: Bus, bound: set[str], clock: Clock, tmp_path: Path
) -> None:
    class BindsAgain:
        """The workspace binds again between the check and the purge."""

        clusters_with_messages = bus.clusters_with_messages
        endpoint_of = bus.endpoint_of
        last_sequence = bus.last_sequence

        async def purge(self, cluster: str, until: int) -> None:
            bound.add(cluster)
            await bus.publish(event(cluster, "of-the-new-binding"))
            await bus.purge(cluster, until)

    departed = DepartedClusters(ENDPOINT, BindsAgain(), DirectoryBundles(tmp_path), bound.__contains__, clock)
    await bus.publish(event("c1", "of-the-old-binding"))
    departed.add("c1")
    clock.advance(GRACE_SECONDS)
    await departed.purge_due()
    assert await subjects(bus) == {event("c1", "of-the-new-binding").subject}


async def test_the_bundles_of_a_departed_cluster_go_and_those_of_others_stay(
    bus: Bus, departed: DepartedClusters, clock: Clock, bound: set[str], tmp_path: Path
) -> None:
    bound.add("c2")
    bundles, bundle = DirectoryBundles(tmp_path), Bundle.build([BundleFile("a")])
    for cluster in ("c1", "c2"):
        await bundles.put(cluster, bundle)
    departed.add("c1")
    departed.add("c2")
    clock.advance(GRACE_SECONDS)
    await departed.purge_due()
    assert await bundles.find("c1", bundle.name) is None
    assert await bundles.find("c2", bundle.name) is not None


async def test_a_start_purges_clusters_that_departed_unseen_unless_another_endpoint_serves_them(
    bus: Bus, departed: DepartedClusters, bound: set[str]
) -> None:
    bound.add("bound")
    kept = [event("bound"), event("elsewhere", endpoint="https://another-shard/services/apiexport/p/e")]
    for each in [*kept, event("gone"), event("gone-too", reason="resync")]:
        await bus.publish(each)
    await departed.purge_due()
    assert await subjects(bus) == {each.subject for each in kept}


async def test_what_comes_late_is_found_by_the_next_sweep(bus: Bus, departed: DepartedClusters, clock: Clock) -> None:
    await departed.purge_due()
    await bus.publish(event("gone", reason="revalidate"))
    clock.advance(SWEEP_SECONDS - 1)
    await departed.purge_due()
    assert len(await subjects(bus)) == 1
    clock.advance(1)
    await departed.purge_due()
    assert await subjects(bus) == set()


async def test_after_an_interruption_nothing_is_swept_before_the_streams_have_resumed(
    bus: Bus, departed: DepartedClusters, clock: Clock, bound: set[str]
) -> None:
    """A workspace may have bound meanwhile, and another replica published its events."""
    await departed.purge_due()
    clock.advance(SWEEP_SECONDS)
    await bus.publish(event("new"))
    departed.resume()
    await departed.purge_due()
    bound.add("new")
    clock.advance(SETTLE_SECONDS)
    await departed.purge_due()
    assert len(await subjects(bus)) == 1


async def test_a_server_that_is_away_is_asked_again(bus: Bus, clock: Clock, bound: set[str], tmp_path: Path) -> None:
    class Failing:
        clusters_with_messages = bus.clusters_with_messages
        endpoint_of = bus.endpoint_of
        last_sequence = bus.last_sequence
        failures = 1

        async def purge(self, cluster: str, until: int) -> None:
            if self.failures:
                self.failures -= 1
                raise BusUnavailable("TimeoutError")
            await bus.purge(cluster, until)

    departed = DepartedClusters(ENDPOINT, Failing(), DirectoryBundles(tmp_path), bound.__contains__, clock)
    await bus.publish(event("c1"))
    departed.add("c1")
    clock.advance(GRACE_SECONDS)
    with pytest.raises(BusUnavailable):
        await departed.purge_due()
    await departed.purge_due()
    assert await subjects(bus) == set()


async def test_nothing_is_purged_before_the_bindings_are_known(
    bus: Bus, departed: DepartedClusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watcher.departed._TICK_SECONDS", 0.0)
    await bus.publish(event("not-listed-yet"))
    looked, known = 0, asyncio.Event()

    def knows_bindings() -> bool:
        nonlocal looked
        looked += 1
        return known.is_set()

    task = asyncio.create_task(run(departed, knows_bindings))
    try:
        await _until(lambda: looked > 3)
        assert len(await subjects(bus)) == 1
        known.set()
        async with asyncio.timeout(10):
            while await subjects(bus):
                await asyncio.sleep(0)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0)
