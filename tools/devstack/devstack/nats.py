"""A real nats-server with JetStream on the loopback interface."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from code_provider.nats_auth import ACCOUNT, accounts, write_keys
from codecommon.messaging.bus import Bus
from codecommon.messaging.topology import INIT
from codecommon.process.settings import NatsSettings
from devstack.paths import VENV_BIN
from devstack.ports import LOOPBACK, free_ports, require_free
from devstack.processes import Process

START_TIMEOUT = 20.0
_ADMIN = "admin"


class NatsServer:
    """An async context manager. A restart keeps port and data.

    It has the users that ``code-provider nats-auth`` makes, and an administrator, who may do everything and whose password is in
    `url`. `environment` is for the provider's processes: each connects with the key of its own name.
    """

    def __init__(self, folder: Path, *, port: int | None = None, monitoring_port: int | None = None) -> None:
        self.port = port or free_ports(1)[0]
        self._monitoring_port = monitoring_port
        self.address = f"nats://{LOOPBACK}:{self.port}"
        self.url = f"nats://{_ADMIN}:{_ADMIN}@{LOOPBACK}:{self.port}"
        self.folder = folder
        self.keys = folder / "keys"
        self.environment: Mapping[str, str] = {"NATS_URL": self.address, "NATS_NKEY": str(self.keys)}
        self._config = folder / "nats-server.json"
        self._process = Process(
            "nats-server",
            [
                VENV_BIN / "nats-server",
                "--config",
                self._config,
                "--addr",
                LOOPBACK,
                "--port",
                str(self.port),
            ],
            log_file=folder / "nats-server.log",
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts it on the data of the last start, if there was one, and waits until it serves."""
        require_free(self.port, "nats-server")
        self._configure()
        await self._process.start()
        try:
            await self._process.wait_ready(self._serves, timeout=START_TIMEOUT)
        except BaseException:
            await self._process.stop()
            raise

    async def declare(self) -> None:
        """Does what ``code-provider init`` does in NATS."""
        async with Bus.connect(self.settings(), INIT) as bus:
            await bus.declare()

    def settings(self) -> NatsSettings:
        """With which `Bus.connect` connects as the user that it is given the name of."""
        return NatsSettings(url=(self.address,), nkey=self.keys)

    async def clients(self) -> list[str]:
        """The names of the clients that are connected now. It needs a `monitoring_port`."""
        url = f"http://{LOOPBACK}:{self._monitoring_port}/connz"
        async with aiohttp.ClientSession(raise_for_status=True) as session, session.get(url) as response:
            return [connection["name"] for connection in (await response.json())["connections"]]

    def _configure(self) -> None:
        config = accounts(write_keys(self.keys))
        config["accounts"][ACCOUNT]["users"].append({"user": _ADMIN, "password": _ADMIN})
        config["jetstream"] = {"store_dir": str(self.folder / "jetstream")}
        if self._monitoring_port is not None:
            config["http"] = f"{LOOPBACK}:{self._monitoring_port}"
        self._config.write_text(json.dumps(config))

    async def stop(self) -> None:
        """Shuts it down in order. Does nothing if it does not run."""
        await self._process.stop()

    async def kill(self) -> None:
        """Kills it with SIGKILL, as in a crash."""
        await self._process.kill()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    @property
    def process(self) -> Process:
        return self._process

    async def _serves(self) -> bool:
        """Whether the server sends its INFO line, which it does once JetStream has recovered."""
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError:
            return False
        try:
            async with asyncio.timeout(2):
                return (await reader.readline()).startswith(b"INFO ") and self._process.running
        except TimeoutError:
            return False
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
