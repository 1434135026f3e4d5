"""The gateway as a process, seen over HTTP."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]
PLAIN = {"CODE_GATEWAY_HOST": "127.0.0.1", "PORT": "0"}


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    started: list[asyncio.subprocess.Process] = []

    async def start(**environ: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway"), env={**PLAIN, **environ}, stderr=asyncio.subprocess.PIPE
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def record(process: asyncio.subprocess.Process, text: str) -> dict[str, Any]:
    """The next log record whose message contains ``text``."""
    assert process.stderr is not None
    async with asyncio.timeout(60):
        async for line in process.stderr:
            found: dict[str, Any] = json.loads(line)
            if text in found["message"]:
                return found
    raise AssertionError(f"ended without {text!r}")


async def address(process: asyncio.subprocess.Process) -> str:
    listening = await record(process, "listening on port")
    await record(process, "started")
    return f"http://127.0.0.1:{listening['message'].rpartition(' ')[2]}"


async def test_healthz_answers_any_method_and_readyz_lists_pings(start: Start) -> None:
    url = await address(await start())

    async with aiohttp.ClientSession(url) as session:
        for method in ("GET", "POST", "DELETE", "OPTIONS", "PURGE"):
            async with session.request(method, "/healthz") as response:
                assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with session.head("/healthz") as response:
            assert response.status == 200
        async with session.get("/readyz") as response:
            assert (response.status, await response.json()) == (200, {"ready": True, "phase": "started", "pings": {}})
        async with session.get("/openapi.json") as response:
            assert response.status == 404


async def test_a_gateway_that_is_asked_to_stop_exits_with_0(start: Start) -> None:
    process = await start()
    await address(process)

    process.send_signal(signal.SIGTERM)

    async with asyncio.timeout(10):
        await process.communicate()
    assert process.returncode == 0


async def test_a_port_that_is_taken_is_one_clear_line_and_exit_code_1(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start(PORT=str(port))

        line = await record(process, "cannot listen")

        assert line["message"] == f"cannot listen on 127.0.0.1:{port} (PORT): Address already in use"
        assert "exception" not in line
        async with asyncio.timeout(10):
            await process.communicate()
        assert process.returncode == 1
