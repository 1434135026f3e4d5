"""Processes that ended while they handled an object, counted on a real nats-server."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.aio.msg import Msg

from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import Bus
from codecommon.messaging.poison_messages import PoisonMessages
from codecommon.testing.builders import event_for, repository_object
from codecommon.testing.objects import InMemoryKcp

pytestmark = pytest.mark.nats

EVENT = event_for(InMemoryKcp().add(repository_object()))


def delivery(number: int) -> Msg:
    """As much of a message as the count is taken from."""
    return cast(Msg, SimpleNamespace(metadata=SimpleNamespace(num_delivered=number)))


@pytest.fixture
async def poison(bus: Bus) -> PoisonMessages:
    return PoisonMessages(await bus.bucket(bus_module.POISON_MESSAGES))


async def test_a_first_delivery_costs_nothing(bus: Bus, poison: PoisonMessages) -> None:
    attempt = poison.attempt(delivery(1), EVENT, "a")
    assert not await attempt.begin()
    await attempt.over()
    status: Any = await (await bus.bucket(bus_module.POISON_MESSAGES)).status()
    assert status.values == 0


async def deaths(poison: PoisonMessages, *replicas: str) -> list[int]:
    """What each of ``replicas`` finds that begins in turn, while none comes to a result."""
    found: list[int] = []
    for number, replica in enumerate(replicas, start=2):
        attempt = poison.attempt(delivery(number), EVENT, replica)
        await attempt.begin()
        found.append(attempt.deaths)
    return found


async def test_four_noted_processes_that_ended_and_it_is_poison(poison: PoisonMessages) -> None:
    assert await deaths(poison, "a", "b", "c", "d") == [0, 1, 2, 3]
    attempt = poison.attempt(delivery(6), EVENT, "e")
    assert await attempt.begin()
    assert attempt.deaths == 4


async def test_a_process_that_gets_its_message_again_has_not_ended(poison: PoisonMessages) -> None:
    assert await deaths(poison, *["a"] * 12) == [0] * 12
    assert await deaths(poison, "b", "b", "c", "c") == [1, 1, 2, 2]


async def test_after_being_set_aside_the_count_begins_anew(poison: PoisonMessages) -> None:
    await deaths(poison, "a", "b", "c", "d")
    poisonous = poison.attempt(delivery(6), EVENT, "e")
    assert await poisonous.begin()
    await poisonous.over()
    assert await deaths(poison, "f", "g") == [0, 1]


async def test_a_delivery_with_a_result_clears_the_count(poison: PoisonMessages) -> None:
    for n in range(2, 30):
        attempt = poison.attempt(delivery(n), EVENT, str(n))
        assert not await attempt.begin()
        assert attempt.deaths == 0
        await attempt.over()


async def test_a_late_result_leaves_the_note_of_the_one_that_took_over(poison: PoisonMessages) -> None:
    late = poison.attempt(delivery(2), EVENT, "a")
    await late.begin()
    await deaths(poison, "b")
    await late.over()
    assert await deaths(poison, "c") == [2]


async def test_a_note_of_an_earlier_version_counts_for_nothing(bus: Bus, poison: PoisonMessages) -> None:
    # It counted deliveries, whose processes may all have lived.
    await (await bus.bucket(bus_module.POISON_MESSAGES)).put(EVENT.uid, b"4")
    assert await deaths(poison, "a") == [0]
