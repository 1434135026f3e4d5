"""The GitHub simulator in its own process, which the services reach over HTTP only."""

from __future__ import annotations

import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from devstack.githubsim import SimControl
from devstack.ports import LOOPBACK
from devstack.processes import Process

START_TIMEOUT = 20.0


class SimulatorProcess:
    """An async context manager; `url` is the host's base URL, `control` seeds it and looks inside.

    `downloads_url` is the other host, from which it serves archives and logs. With a `port` the address is known before it
    runs; 0 leaves the choice to the system.
    """

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        self.url = f"http://{LOOPBACK}:{port}" if port else ""
        self.downloads_url = ""
        self.process = Process(
            "githubsim",
            [sys.executable, "-m", "devstack.githubsim", "--port", str(port)],
            log_file=folder / "githubsim.log",
        )
        self._control: SimControl | None = None
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            await exits.enter_async_context(self.process)
            await self.process.wait_ready(self._announced, timeout=START_TIMEOUT)
            self._control = await exits.enter_async_context(SimControl(self.url))
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    @property
    def control(self) -> SimControl:
        assert self._control is not None, "enter the context first"
        return self._control

    @property
    def allowed(self) -> str:
        """Both of its hosts, as in ``CODE_ALLOWED_GIT_HOSTS``."""
        return f"{self.url},{self.downloads_url}"

    @property
    def authority(self) -> str:
        """``host:port``, as in ``CODE_GIT_HOST_LIMITS`` and in status."""
        return urlsplit(self.url).netloc

    async def _announced(self) -> bool:
        """Whether it serves: it then writes its address to the log, in one line of JSON."""
        for line in self.process.tail().splitlines():
            if line.startswith('{"url"'):
                announced = json.loads(line)
                self.url, self.downloads_url = announced["url"], announced["downloads"]
                return True
        return False
