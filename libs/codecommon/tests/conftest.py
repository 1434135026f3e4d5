"""A real nats-server for the whole run, and a fresh set of streams on it for each test; see `devstack.fixtures`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from nats.js.errors import ServerError

from codecommon.messaging.bus import Bus
from codecommon.messaging.topology import BUCKETS, STREAMS
from codecommon.process.settings import NatsSettings
from codecommon.testing.engine import SERVICE, AdminBus, until
from codecommon.testing.objects import InMemoryKcp
from devstack.nats import NatsServer

_STREAM_CREATE_FAILED = 10049


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("devstack.fixtures")


@pytest.fixture
def nats_settings(nats_server: NatsServer) -> NatsSettings:
    return NatsSettings(url=(nats_server.url,))


@pytest.fixture
def kcp() -> InMemoryKcp:
    return InMemoryKcp()


@pytest_asyncio.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A connection to a NATS that holds the streams, durables and buckets, all empty. It may do everything.

    An engine on it works as the service does, with the service's own rights.
    """
    async with (
        AdminBus.connect(NatsSettings(url=(nats_server.url,))) as connected,
        Bus.connect(nats_server.settings(), SERVICE) as of_service,
    ):
        connected.of_service = of_service
        await until(lambda: _declared(connected))
        yield connected
        for stream in STREAMS:
            await connected.js.delete_stream(stream)
        for bucket in BUCKETS:
            await connected.js.delete_key_value(bucket)


async def _declared(bus: Bus) -> bool:
    """False while nats-server still removes the folder of a stream of that name, which it deleted a moment ago."""
    try:
        await bus.declare()
    except ServerError as error:
        if error.err_code != _STREAM_CREATE_FAILED:
            raise
        return False
    return True
