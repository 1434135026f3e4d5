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
async def strikes(bus: Bus) -> PoisonMessages:
    return PoisonMessages(await bus.bucket(bus_module.STRIKES))


async def test_a_first_delivery_costs_nothing(bus: Bus, strikes: PoisonMessages) -> None:
    strike = await strikes.before(delivery(1), EVENT)
    assert (strike.count, strike.out) == (0, False)
    await strike.clear()
    status: Any = await (await bus.bucket(bus_module.STRIKES)).status()
    assert status.values == 0


async def test_five_deliveries_without_a_result_and_it_is_out(strikes: PoisonMessages) -> None:
    found = [await strikes.before(delivery(n), EVENT) for n in range(1, 7)]
    assert [(strike.count, strike.out) for strike in found] == [
        (0, False),
        (1, False),
        (2, False),
        (3, False),
        (4, False),
        (5, True),
    ]


async def test_after_being_set_aside_the_count_begins_anew(strikes: PoisonMessages) -> None:
    for n in range(1, 7):
        await strikes.before(delivery(n), EVENT)
    strike = await strikes.before(delivery(7), EVENT)
    assert (strike.count, strike.out) == (1, False)


async def test_a_delivery_with_a_result_clears_the_count(strikes: PoisonMessages) -> None:
    for n in range(2, 30):
        strike = await strikes.before(delivery(n), EVENT)
        assert not strike.out
        await strike.clear()
