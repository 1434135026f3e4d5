"""Leases on a real nats-server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.js import api
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from codecommon.messaging.bus import Bus
from codecommon.messaging.lease import Lease, LeaseLost, LeaseTiming, Term
from codecommon.process.settings import NatsSettings
from devstack.nats import NatsServer

pytestmark = [pytest.mark.nats, pytest.mark.slow]

TTL = 2.0
QUICK = LeaseTiming(renew=0.2, lost_after=1.0, retry=0.1, release=0.5)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path) as running:
        yield running


@pytest.fixture
async def bus(server: NatsServer) -> AsyncIterator[Bus]:
    async with Bus.connect(NatsSettings(url=(server.url,))) as connected:
        yield connected


class _Opener:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def __call__(self) -> KeyValue:
        return await self._bus.js.create_key_value(
            api.KeyValueConfig(bucket="T_LEASES", ttl=TTL, storage=api.StorageType.MEMORY, history=1)
        )


class Replica:
    """Holds the lease in a task of its own until told to stop."""

    def __init__(self, bus: Bus, holder: str, timing: LeaseTiming = QUICK) -> None:
        self.lease = Lease(_Opener(bus), "https://kcp/services/apiexport/x/y", holder, timing)
        self.holding = asyncio.Event()
        self.stop = asyncio.Event()
        self.term: Term | None = None
        self.lost_at = 0.0
        self.lost = False
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            async with self.lease.term() as self.term:
                self.holding.set()
                try:
                    await self.stop.wait()
                finally:
                    self.holding.clear()
                    self.lost_at = time.monotonic()
        except* LeaseLost:
            self.lost = True


async def within(seconds: float, event: asyncio.Event) -> float:
    """Wait for ``event``; returns how long it took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        await event.wait()
    return time.monotonic() - began


async def connected(bus: Bus) -> None:
    """Return once the client is connected again."""
    async with asyncio.timeout(10):
        while not bus.nc.is_connected:
            await asyncio.sleep(0.05)


async def test_one_of_two_replicas_holds_and_a_clean_stop_hands_over_at_once(bus: Bus) -> None:
    first = Replica(bus, "first")
    await within(5, first.holding)
    second = Replica(bus, "second")
    with pytest.raises(TimeoutError):
        # Longer than the TTL: renewals keep it.
        await within(TTL * 1.5, second.holding)
    assert first.holding.is_set()
    first.stop.set()
    await first.task
    assert await within(5, second.holding) < 1.0
    assert first.term == Term(succession=False)
    assert second.term == Term(succession=True)
    second.stop.set()
    await second.task


async def test_cancelling_the_holder_hands_over_at_once(bus: Bus) -> None:
    first = Replica(bus, "first")
    await within(5, first.holding)
    second = Replica(bus, "second")
    first.task.cancel()
    assert await within(5, second.holding) < 1.0
    second.stop.set()
    await second.task


async def test_a_holder_that_stops_while_it_renews_hands_over_at_once(bus: Bus) -> None:
    first = Replica(bus, "first")
    await within(5, first.holding)
    bucket = await _Opener(bus)()
    # A renewal that took effect; its answer did not come before the end.
    await bucket.put(first.lease._key, b"first")
    first.task.cancel()
    await asyncio.gather(first.task, return_exceptions=True)
    with pytest.raises(KeyNotFoundError):
        await bucket.get(first.lease._key)


async def test_a_claim_that_was_answered_to_nobody_is_given_up_at_the_end(bus: Bus) -> None:
    bucket = await _Opener(bus)()
    replica = Replica(bus, "standby")
    await within(5, replica.holding)
    replica.lease._revision = None
    replica.task.cancel()
    await asyncio.gather(replica.task, return_exceptions=True)
    with pytest.raises(KeyNotFoundError):
        await bucket.get(replica.lease._key)


async def test_a_standby_that_stops_does_not_take_the_lease_from_its_holder(bus: Bus) -> None:
    first = Replica(bus, "first")
    await within(5, first.holding)
    second = Replica(bus, "second")
    with pytest.raises(TimeoutError):
        await within(QUICK.retry * 3, second.holding)
    second.task.cancel()
    await asyncio.gather(second.task, return_exceptions=True)
    bucket = await _Opener(bus)()
    assert (await bucket.get(first.lease._key)).value == b"first"
    first.stop.set()
    await first.task


async def test_a_standby_stops_though_the_answer_that_it_waited_for_is_an_error(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def claim(lease: Lease) -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            # As `asyncio.wait_for` does, when the cancellation comes together with what it waits for.
            raise KeyWrongLastSequenceError from None

    monkeypatch.setattr(Lease, "_claim", claim)
    standby = Replica(bus, "standby")
    await within(5, asked)
    standby.task.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait({standby.task})
    assert standby.task.cancelled()


async def test_a_holder_that_vanished_is_replaced_after_the_ttl(bus: Bus) -> None:
    gone = Lease(_Opener(bus), "task", "killed", QUICK)
    # What a SIGKILL leaves: an entry that nobody renews or deletes.
    await gone._claim()
    heir = Lease(_Opener(bus), "task", "heir", QUICK)
    began = time.monotonic()
    async with asyncio.timeout(TTL * 3), heir.term() as term:
        assert TTL * 0.5 < time.monotonic() - began < TTL * 2
        assert term.succession


async def test_a_holder_that_cannot_renew_stops_before_the_ttl(bus: Bus, server: NatsServer) -> None:
    replica = Replica(bus, "only")
    await within(5, replica.holding)
    cut = time.monotonic()
    await server.kill()
    async with asyncio.timeout(10):
        await replica.task
    assert replica.lost
    assert QUICK.lost_after * 0.5 < replica.lost_at - cut < TTL
    await server.start()
    await connected(bus)


async def test_a_holder_whose_entry_another_has_stops_at_once(bus: Bus) -> None:
    replica = Replica(bus, "robbed")
    await within(5, replica.holding)
    bucket = await _Opener(bus)()
    await bucket.put(replica.lease._key, b"robber")
    async with asyncio.timeout(5):
        await replica.task
    assert not replica.holding.is_set()
    assert (await bucket.get(replica.lease._key)).value == b"robber"


async def test_a_renewal_whose_answer_was_lost_does_not_end_the_term(bus: Bus) -> None:
    replica = Replica(bus, "only")
    await within(5, replica.holding)
    bucket = await _Opener(bus)()
    # The same value at a revision that the holder has not been told of.
    await bucket.put(replica.lease._key, b"only")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(QUICK.lost_after * 1.5):
            await asyncio.shield(replica.task)
    assert replica.holding.is_set()
    replica.stop.set()
    await replica.task


async def test_a_server_that_forgot_the_bucket_is_given_it_again(bus: Bus, server: NatsServer) -> None:
    replica = Replica(bus, "only", LeaseTiming(renew=0.2, lost_after=8.0, retry=0.1))
    await within(5, replica.holding)
    await server.restart()
    bucket = None
    async with asyncio.timeout(8):
        while bucket is None:
            found = await bus.js.streams_info()
            bucket = next((s for s in found if s.config.name == "KV_T_LEASES"), None)
    assert replica.holding.is_set()
    replica.stop.set()
    await replica.task


async def test_an_error_of_the_body_ends_the_term_and_hands_over(bus: Bus) -> None:
    lease = Lease(_Opener(bus), "task", "failing", QUICK)
    with pytest.raises(ExceptionGroup) as caught:
        async with lease.term():
            raise ValueError("of the body")
    assert caught.group_contains(ValueError)
    heir = Lease(_Opener(bus), "task", "heir", QUICK)
    async with asyncio.timeout(1), heir.term():
        pass
