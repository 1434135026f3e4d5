"""``code-provider SERVICE``: one command, and so one image, runs any service."""

import sys
from collections.abc import Awaitable, Callable

import pytest

from code_provider.services import SERVICES
from devstack.processes import Process

START_SECONDS = 90


@pytest.mark.parametrize("service", SERVICES)
async def test_the_command_runs_any_service_by_its_name(
    start_process: Callable[..., Awaitable[Process]], service: str
) -> None:
    # A setting that every service refuses by its own name shows that it is this service that started.
    process = await start_process(
        sys.executable, "-m", "code_provider", service, environ={"CODE_LOG_LEVEL": "loud", "PATH": "/usr/bin:/bin"}
    )

    assert await process.wait(START_SECONDS) == 2

    assert [line.split(";")[0] for line in process.lines] == [f"{service}: CODE_LOG_LEVEL: not an accepted value"]
