"""A real nats-server with JetStream on the loopback interface."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.paths import VENV_BIN
from devstack.ports import LOOPBACK, free_ports, require_free
from devstack.processes import Process

START_TIMEOUT = 20.0


class NatsServer:
    """An async context manager; `url` is where it serves. A restart keeps port and data."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.port = port or free_ports(1)[0]
        self.url = f"nats://{LOOPBACK}:{self.port}"
        self.folder = folder
        self._process = Process(
            "nats-server",
            [
                VENV_BIN / "nats-server",
                "--addr",
                LOOPBACK,
                "--port",
                str(self.port),
                "-js",
                "-sd",
                folder / "jetstream",
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
        await self._process.start()
        try:
            await self._process.wait_ready(self._serves, timeout=START_TIMEOUT)
        except BaseException:
            await self._process.stop()
            raise

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
