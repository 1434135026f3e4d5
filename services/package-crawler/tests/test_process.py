"""The service as a process."""

import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from devstack.processes import Process

pytestmark = pytest.mark.slow


async def test_it_is_ready_without_any_dependency_and_stops_when_asked(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "package_crawler"]
    async with Process("package-crawler", command, log_file=tmp_path / "log", env={}) as process:
        address = (await process.line(r"health endpoints on (\S+?)\""))[1]
        await process.line("not crawled in this release")
        await process.line('"started"')
        async with aiohttp.ClientSession() as session, session.get(f"{address}/readyz") as response:
            assert (await response.json())["ready"] is True

        os.kill(process.pid, signal.SIGTERM)

        assert await process.wait(10) == 0
