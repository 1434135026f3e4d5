"""The gateway's one connection to a real nats-server, as commits, checkouts and Connect with GitHub use it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from codecommon.api.bundle import Bundle, BundleFile
from codecommon.messaging.bus import BusUnavailable
from codecommon.process.settings import NatsSettings
from codecommon.testing.engine import until
from devstack.nats import NatsServer
from devstack.ports import free_ports
from gateway.bundles import Bundles, open_store
from gateway.nats_connection import NatsConnection
from gateway.oauth.flows import Flows

pytestmark = pytest.mark.nats

BUNDLE = Bundle.build([BundleFile.of_text("README.md", "hello\n")])


@dataclass
class Gateway:
    """What of a gateway needs NATS."""

    connection: NatsConnection
    flows: Flows
    bundles: Bundles

    async def both_work(self) -> bool:
        flow = secrets.token_urlsafe()
        try:
            await self.flows.take("nobody")
            await self.bundles.put("c1", BUNDLE)
            read = await self.bundles.get("c1", BUNDLE.name)
            await self.flows.begin(flow)
            return await self.flows.take(flow) and read == BUNDLE
        except BusUnavailable:
            return False

    async def both_are_refused(self) -> None:
        with pytest.raises(BusUnavailable):
            await self.flows.begin(secrets.token_urlsafe())
        with pytest.raises(BusUnavailable):
            await self.bundles.get("c1", BUNDLE.name)


@asynccontextmanager
async def gateway(settings: NatsSettings) -> AsyncIterator[Gateway]:
    connection = NatsConnection(settings, "gateway")
    running = asyncio.create_task(connection.run("commits, Connect with GitHub"))
    yield Gateway(connection, Flows(connection), Bundles(partial(open_store, connection, None)))
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path / "nats", monitoring_port=free_ports(1)[0]) as running:
        await running.declare()
        yield running


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.nats_connection._RETRY_SECONDS", 0.01)


async def test_flows_and_bundles_share_one_connection_and_both_come_back_when_the_server_does(
    server: NatsServer,
) -> None:
    async with gateway(server.settings()) as one:
        await until(one.both_work)
        assert await server.clients() == ["gateway"]

        await server.stop()
        async with asyncio.timeout(30):
            await one.both_are_refused()

        await server.start()
        await until(one.both_work)
        assert await server.clients() == ["gateway"]


async def test_a_server_that_lost_its_store_is_used_again_once_init_has_run(server: NatsServer) -> None:
    async with gateway(server.settings()) as one:
        await until(one.both_work)
        await server.stop()
        shutil.rmtree(server.folder / "jetstream")
        await server.start()
        await server.declare()

        await until(one.both_work)


async def test_a_connection_that_the_client_gave_up_is_made_anew(
    server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(server.settings()) as one:
        await until(one.both_work)
        async with one.connection.use("a test") as bus:
            await bus.nc.close()

        await until(one.both_work)

        assert await server.clients() == ["gateway"]
    assert "no connection to NATS for commits, Connect with GitHub; trying again: NATS has closed" in caplog.text


async def test_a_key_that_cannot_be_read_is_tried_again(server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    key = server.keys / "gateway.nk"
    elsewhere = key.rename(key.with_suffix(".away"))
    async with gateway(server.settings()) as one:
        await until(lambda: f"trying again: NATS_NKEY: cannot read {key}" in caplog.text)
        await one.both_are_refused()
        elsewhere.rename(key)

        await until(one.both_work)


async def test_what_nats_does_not_answer_is_unavailable_within_a_bound_and_the_log_says_for_what(
    server: NatsServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.oauth.flows._ANSWER_SECONDS", 0.2)
    async with gateway(server.settings()) as one:
        await until(one.both_work)
        async with one.connection.use("a test") as bus:
            monkeypatch.setattr(bus.js, "_timeout", 0.2)
        os.kill(server.process.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(30):
                await one.both_are_refused()
        finally:
            os.kill(server.process.pid, signal.SIGCONT)

    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    for purpose in ("Connect with GitHub", "bundles"):
        assert any(line.startswith(f"NATS does not answer for {purpose}: ") for line in warned)


async def test_bundles_in_a_directory_need_no_connection(tmp_path: Path) -> None:
    never = NatsConnection(NatsSettings(), "gateway")
    bundles = Bundles(partial(open_store, never, tmp_path))

    await bundles.put("c1", BUNDLE)

    assert await bundles.get("c1", BUNDLE.name) == BUNDLE
