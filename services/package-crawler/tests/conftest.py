"""A real nats-server for the whole run, and fresh streams on it for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import Bus
from codecommon.process.settings import NatsSettings
from codecommon.testing.engine import until
from devstack.nats import NatsServer


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("devstack.fixtures")


@pytest_asyncio.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with Bus.connect(NatsSettings(url=(nats_server.url,))) as connected:
        await connected.declare()
        yield connected
        await connected.js.purge_stream(bus_module.EVENTS_STREAM)
        await until(lambda: _is_idle(connected))
        for name in (bus_module.CRAWL_STATES, bus_module.LOCKS, bus_module.POISON_MESSAGES):
            await connected.js.purge_stream(f"KV_{name}")


async def _is_idle(bus: Bus) -> bool:
    info = await bus.js.consumer_info(bus_module.EVENTS_STREAM, bus_module.CRAWLER)
    return not info.num_ack_pending and not info.num_pending
