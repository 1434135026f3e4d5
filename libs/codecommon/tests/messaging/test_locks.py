"""The mutex within a process, and the lock across replicas on a real nats-server."""

from __future__ import annotations

import asyncio

import pytest

from codecommon.messaging import bus as bus_module
from codecommon.messaging import locks
from codecommon.messaging.bus import Bus
from codecommon.process.mutex import KeyedMutex

KEY = "repositories.c1.site"


# ---- the mutex


async def test_one_key_is_held_once_and_another_meanwhile() -> None:
    mutex = KeyedMutex()
    order: list[str] = []
    inside, leave = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with mutex.hold("a"):
            inside.set()
            await leave.wait()
            order.append("first")

    async def second() -> None:
        async with mutex.hold("a"):
            order.append("second")

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(first())
        await inside.wait()
        group.create_task(second())
        async with mutex.hold("b"):
            order.append("other key")
        leave.set()
    assert order == ["other key", "first", "second"]


async def test_who_waits_and_is_cancelled_is_not_in_the_way() -> None:
    mutex = KeyedMutex()

    async def hold() -> None:
        async with mutex.hold("a"):
            pass

    async with asyncio.timeout(5):
        async with mutex.hold("a"):
            waiting = asyncio.create_task(hold())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await hold()


async def test_keys_that_nobody_wants_take_no_memory() -> None:
    mutex = KeyedMutex()
    for n in range(10):
        async with mutex.hold(str(n)):
            pass
    assert len(mutex) == 0


# ---- the lock


@pytest.mark.nats
async def test_a_lock_is_taken_once_and_free_after_its_release(bus: Bus) -> None:
    bucket = await bus.bucket(bus_module.LOCKS)
    lock = await locks.acquire(bucket, KEY, "me")
    with pytest.raises(locks.LockTaken):
        await locks.acquire(bucket, KEY, "another")
    await locks.acquire(bucket, "repositories.c1.other", "me")
    await lock.release()
    again = await locks.acquire(bucket, KEY, "me")
    await again.renew()
    assert not again.lost


@pytest.mark.nats
async def test_a_lock_that_was_granted_without_an_answer_is_not_in_its_owners_way(bus: Bus) -> None:
    bucket = await bus.bucket(bus_module.LOCKS)
    await locks.acquire(bucket, KEY, "me")
    again = await locks.acquire(bucket, KEY, "me")
    with pytest.raises(locks.LockTaken):
        await locks.acquire(bucket, KEY, "another")
    await again.release()
    await locks.acquire(bucket, KEY, "another")


@pytest.mark.nats
async def test_a_release_waits_for_the_renewal_under_way(bus: Bus) -> None:
    bucket = await bus.bucket(bus_module.LOCKS)
    lock = await locks.acquire(bucket, KEY, "me")
    renewing = asyncio.create_task(lock.renew())
    await asyncio.sleep(0)
    await lock.release()
    await renewing
    await locks.acquire(bucket, KEY, "another")


@pytest.mark.nats
async def test_a_release_finds_its_lock_after_a_renewal_that_was_not_answered(bus: Bus) -> None:
    bucket = await bus.bucket(bus_module.LOCKS)
    lock = await locks.acquire(bucket, KEY, "me")
    held = await bucket.get(KEY)
    await bucket.update(KEY, held.value or b"", last=held.revision)
    await lock.release()
    await locks.acquire(bucket, KEY, "another")


@pytest.mark.nats
async def test_a_release_does_not_take_the_lock_of_another(bus: Bus) -> None:
    bucket = await bus.bucket(bus_module.LOCKS)
    mine = await locks.acquire(bucket, KEY, "me")
    await bucket.put(KEY, b"another replica, after mine expired")
    await mine.release()
    with pytest.raises(locks.LockTaken):
        await locks.acquire(bucket, KEY, "me")


@pytest.mark.nats
async def test_a_lock_that_another_has_cannot_be_renewed_and_is_lost_in_time(bus: Bus) -> None:
    bucket = await bus.bucket(bus_module.LOCKS)
    mine = await locks.acquire(bucket, KEY, "me", lost_after=0.05)
    await bucket.put(KEY, b"another replica, after mine expired")
    async with asyncio.timeout(5):
        while not mine.lost:
            await mine.renew()


@pytest.mark.nats
async def test_a_lock_that_is_renewed_is_not_lost(bus: Bus) -> None:
    bucket = await bus.bucket(bus_module.LOCKS)
    mine = await locks.acquire(bucket, KEY, "me", lost_after=0.2)
    loop = asyncio.get_running_loop()
    end = loop.time() + 0.3
    while loop.time() < end:
        await mine.renew()
    assert not mine.lost
