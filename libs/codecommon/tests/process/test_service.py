"""The life of a process, seen from outside: a real process per test, which runs one ``main`` of the script below."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from devstack.processes import Process

pytestmark = pytest.mark.slow

SCRIPT = """
import asyncio, re, sys, time
from codecommon.process.liveness import Liveness
from codecommon.process.service import CannotRun, run
from codecommon.process.settings import ServiceSettings

async def forever():
    await asyncio.Event().wait()

async def broken():
    raise ValueError("token=hunter2hunter2")

async def orderly(service):
    service.spawn(forever(), "loop")
    service.ready()
    await service.stopping.wait()
    print("drained", flush=True)

async def dead_task(service):
    service.ready()
    service.spawn(broken(), "pump")
    await forever()

async def cannot_run(service):
    raise CannotRun("the port is taken")

async def returns_early(service):
    service.ready()

async def waits_for_start(service):
    print("waiting", flush=True)
    await forever()

async def clings(service):
    service.ready()
    while True:
        try:
            await forever()
        except asyncio.CancelledError:
            pass

async def lagging(service):
    service.ready()
    while True:
        time.sleep(1.5)  # blocks the event loop on purpose
        await asyncio.sleep(0.1)

async def hangs(service):
    service.liveness = Liveness(stalled_seconds=2)
    service.spawn(service.liveness.run(), "watch")
    await asyncio.sleep(0)
    print("hangs", flush=True)
    # The interpreter's lock is held all the time, as by OpenSSL while it checks a key.
    re.fullmatch("(a+)+b", "a" * 64)

async def dead_task_beside_one_that_clings(service):
    service.spawn(clings(service), "clings")
    await asyncio.sleep(0)
    raise ValueError

run("sample", ServiceSettings, globals()[sys.argv[1]])
"""

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    started: list[Process] = []

    async def start(main: str, **environ: str) -> Process:
        process = Process("sample", [sys.executable, "-c", SCRIPT, main], log_file=tmp_path / "log", env=environ)
        started.append(process)
        await process.start()
        return process

    yield start
    for process in started:
        if process.running:
            await process.kill()


async def record(process: Process, text: str) -> dict[str, Any]:
    """The next log record whose message contains ``text``."""
    found: dict[str, Any] = json.loads((await process.line(text)).string)
    return found


END_SECONDS = 30


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_that_is_asked_to_stop_drains_and_exits_with_0(start: Start, number: int) -> None:
    process = await start("orderly")
    await process.line("started")

    os.kill(process.pid, number)

    assert await process.wait(END_SECONDS) == 0
    assert process.lines.count("drained") == 1


async def test_health_is_served_on_a_free_loopback_port_that_is_logged(start: Start) -> None:
    process = await start("orderly")
    address = (await record(process, "health endpoints on"))["message"].rpartition(" ")[2]
    await process.line("started")

    async with aiohttp.ClientSession() as session, session.get(f"{address}/readyz") as response:
        assert response.status == 200
    assert address.startswith("http://127.0.0.1:")


async def test_livez_tells_how_late_the_event_loop_runs(start: Start) -> None:
    process = await start("lagging")
    address = (await record(process, "health endpoints on"))["message"].rpartition(" ")[2]
    await process.line("started")
    lag = 0.0

    async with asyncio.timeout(END_SECONDS), aiohttp.ClientSession() as session:
        while lag < 0.4:
            async with session.get(f"{address}/livez") as response:
                lag = (await response.json())["loopLagSeconds"]

    assert lag < END_SECONDS


async def test_a_process_whose_event_loop_hangs_says_where_and_ends_with_1(start: Start) -> None:
    process = await start("hangs")
    await process.line("hangs")

    assert await process.wait(END_SECONDS) == 1

    assert any("in hangs" in line for line in process.lines)


async def test_a_dead_task_ends_the_process_with_1_and_one_redacted_trace(start: Start) -> None:
    process = await start("dead_task")

    code = await process.wait(END_SECONDS)

    records = [json.loads(line) for line in process.lines]
    traces = [record["exception"] for record in records if "exception" in record]
    assert code == 1
    assert len(traces) == 1
    assert "ValueError" in traces[0]
    assert "in task 'pump' of sample" in traces[0]
    assert "hunter2" not in "\n".join(process.lines)


async def test_a_process_that_cannot_run_says_why_in_one_line_without_trace(start: Start) -> None:
    process = await start("cannot_run")

    found = await record(process, "the port is taken")

    assert "exception" not in found
    assert await process.wait(END_SECONDS) == 1


async def test_a_main_that_returns_unasked_ends_the_process_with_1(start: Start) -> None:
    process = await start("returns_early")

    assert await process.wait(END_SECONDS) == 1


async def test_a_process_that_is_still_starting_stops_at_once(start: Start) -> None:
    process = await start("waits_for_start")
    await process.line("health endpoints on")

    os.kill(process.pid, signal.SIGTERM)

    assert await process.wait(4) == 0


async def test_a_task_that_ignores_its_cancellation_does_not_keep_a_broken_process(start: Start) -> None:
    process = await start("dead_task_beside_one_that_clings")

    assert await process.wait(END_SECONDS) == 1
    await process.line("has not ended by itself")


async def test_a_wrong_setting_is_one_line_on_stderr_and_exit_code_2(start: Start) -> None:
    process = await start("orderly", CODE_NATS_REPLICAS="many")

    assert await process.wait(END_SECONDS) == 2
    assert process.lines == [
        "sample: CODE_NATS_REPLICAS: not a whole number; accepted: how many servers keep a message, 1 to 5"
    ]


async def test_a_health_port_that_is_taken_is_said_clearly(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start("orderly", CODE_HEALTH_PORT=str(port), CODE_HEALTH_HOST="127.0.0.1")

        found = await record(process, "cannot listen")

        assert found["message"] == f"cannot listen on 127.0.0.1:{port} (CODE_HEALTH_PORT): Address already in use"
        assert await process.wait(END_SECONDS) == 1
