from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from devstack.processes import Process


@pytest.fixture
async def start_process(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Process]]]:
    """Starts a command whose output the test reads; what still runs at the end of the test is killed."""
    started: list[Process] = []

    async def start(*command: str, environ: Mapping[str, str] | None = None) -> Process:
        number = len(started)
        process = Process(f"process {number}", command, log_file=tmp_path / f"process-{number}.log", env=environ)
        started.append(process)
        await process.start()
        return process

    yield start
    for process in started:
        if process.running:
            await process.kill()
