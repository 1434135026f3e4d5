"""Records: the same cases on a bucket in NATS and on the double in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import Bus, BusUnavailable
from codecommon.messaging.records import BucketRecords, Records
from codecommon.testing.records import InMemoryRecords


@pytest_asyncio.fixture(params=["nats", "memory"])
async def records(request: pytest.FixtureRequest) -> AsyncIterator[Records]:
    if request.param == "memory":
        yield InMemoryRecords()
    else:
        bus: Bus = request.getfixturevalue("bus")
        yield await BucketRecords.open(bus, bus_module.OWNERS)


async def revision_of(records: Records, key: str) -> int:
    found = await records.get(key)
    assert found is not None
    return found.revision


async def value_of(records: Records, key: str) -> bytes | None:
    found = await records.get(key)
    return found.value if found is not None else None


async def test_of_two_who_create_a_record_the_first_has_it(bus: Bus, records: Records) -> None:
    assert await value_of(records, "a") is None
    assert await records.create("a", b"1") is True
    assert await records.create("a", b"2") is False
    assert await value_of(records, "a") == b"1"


async def test_an_update_names_what_it_replaces(bus: Bus, records: Records) -> None:
    await records.create("a", b"1")
    seen = await revision_of(records, "a")
    assert await records.update("a", b"2", seen) is True
    assert await records.update("a", b"3", seen) is False
    assert await value_of(records, "a") == b"2"


async def test_what_is_put_replaces_whatever_is_there(bus: Bus, records: Records) -> None:
    await records.put("a", b"1")
    await records.put("a", b"2")
    assert await value_of(records, "a") == b"2"


async def test_a_removed_record_is_gone_and_can_be_made_anew(bus: Bus, records: Records) -> None:
    await records.create("a", b"1")
    await records.create("b", b"1")
    await records.remove("a", await revision_of(records, "a"))
    assert (await value_of(records, "a"), await value_of(records, "b")) == (None, b"1")
    assert await records.create("a", b"2") is True


async def test_a_record_that_was_replaced_meanwhile_is_not_removed(bus: Bus, records: Records) -> None:
    await records.create("a", b"1")
    seen = await revision_of(records, "a")
    await records.put("a", b"2")
    await records.remove("a", seen)
    assert await value_of(records, "a") == b"2"


async def test_a_removed_record_leaves_nothing_in_the_bucket(bus: Bus) -> None:
    records = await BucketRecords.open(bus, bus_module.OWNERS)
    for number in range(3):
        await records.create(f"repositories.{number}", b"1")
        await records.remove(f"repositories.{number}", await revision_of(records, f"repositories.{number}"))
    assert (await bus.js.stream_info(f"KV_{bus_module.OWNERS}")).state.messages == 0


async def test_a_record_is_kept_for_ever(bus: Bus) -> None:
    assert not (await bus.js.stream_info(f"KV_{bus_module.OWNERS}")).config.max_age


async def test_without_an_answer_it_says_so() -> None:
    records = InMemoryRecords()
    records.down = True
    with pytest.raises(BusUnavailable):
        await records.get("a")


async def test_nothing_counts_as_recorded_in_a_bucket_that_is_gone(bus: Bus) -> None:
    """It looks empty to a read. So whoever relies on an absence writes before they act."""
    records = await BucketRecords.open(bus, bus_module.OWNERS)
    await bus.js.delete_key_value(bus_module.OWNERS)
    try:
        with pytest.raises(BusUnavailable):
            await records.create("a", b"1")
    finally:
        await bus.declare()
