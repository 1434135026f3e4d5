"""Deliveries that ended the process, counted on a real nats-server."""

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
    attempt = await poison.begin(delivery(1), EVENT)
    assert (attempt.failures, attempt.is_poison) == (0, False)
    await attempt.succeeded()
    status: Any = await (await bus.bucket(bus_module.POISON_MESSAGES)).status()
    assert status.values == 0


async def test_five_deliveries_without_a_result_and_it_is_poison(poison: PoisonMessages) -> None:
    found = [await poison.begin(delivery(n), EVENT) for n in range(1, 7)]
    assert [(attempt.failures, attempt.is_poison) for attempt in found] == [
        (0, False),
        (1, False),
        (2, False),
        (3, False),
        (4, False),
        (5, True),
    ]


async def test_after_being_set_aside_the_count_begins_anew(poison: PoisonMessages) -> None:
    for n in range(1, 7):
        await poison.begin(delivery(n), EVENT)
    attempt = await poison.begin(delivery(7), EVENT)
    assert (attempt.failures, attempt.is_poison) == (1, False)


async def test_a_delivery_with_a_result_clears_the_count(poison: PoisonMessages) -> None:
    for n in range(2, 30):
        attempt = await poison.begin(delivery(n), EVENT)
        assert not attempt.is_poison
        await attempt.succeeded()
