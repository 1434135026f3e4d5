"""The life of a process, seen from outside: a real process per test, which runs one ``main`` of the script below."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

SCRIPT = """
import asyncio, sys
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

async def dead_task_beside_one_that_clings(service):
    service.spawn(clings(service), "clings")
    await asyncio.sleep(0)
    raise ValueError

run("sample", ServiceSettings, globals()[sys.argv[1]])
"""

Log = list[dict[str, Any]]


class Process:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self, text: str) -> dict[str, Any]:
        """The first log record from here on whose message contains ``text``."""
        assert self._process.stderr is not None
        async with asyncio.timeout(30):
            async for raw in self._process.stderr:
                record: dict[str, Any] = json.loads(raw)
                if text in record["message"]:
                    return record
        raise AssertionError(f"ended without {text!r}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def end(self) -> tuple[int, str, str]:
        """Exit code and what is left on stdout and stderr."""
        async with asyncio.timeout(30):
            out, err = await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode, out.decode(), err.decode()


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    started: list[asyncio.subprocess.Process] = []

    async def start(main: str, **environ: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SCRIPT, main),
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return Process(process)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_that_is_asked_to_stop_drains_and_exits_with_0(start: Start, number: int) -> None:
    process = await start("orderly")
    await process.line("started")

    process.signal(number)

    code, out, _ = await process.end()
    assert (code, out) == (0, "drained\n")


async def test_health_is_served_on_a_free_loopback_port_that_is_logged(start: Start) -> None:
    process = await start("orderly")
    address = (await process.line("health endpoints on"))["message"].rpartition(" ")[2]
    await process.line("started")

    async with aiohttp.ClientSession() as session, session.get(f"{address}/readyz") as response:
        assert response.status == 200
    assert address.startswith("http://127.0.0.1:")


async def test_a_dead_task_ends_the_process_with_1_and_one_redacted_trace(start: Start) -> None:
    process = await start("dead_task")

    code, _, err = await process.end()

    records = [json.loads(line) for line in err.splitlines()]
    traces = [record["exception"] for record in records if "exception" in record]
    assert code == 1
    assert len(traces) == 1
    assert "ValueError" in traces[0]
    assert "in task 'pump' of sample" in traces[0]
    assert "hunter2" not in err


async def test_a_process_that_cannot_run_says_why_in_one_line_without_trace(start: Start) -> None:
    process = await start("cannot_run")

    record = await process.line("the port is taken")

    assert "exception" not in record
    assert (await process.end())[0] == 1


async def test_a_main_that_returns_unasked_ends_the_process_with_1(start: Start) -> None:
    process = await start("returns_early")

    assert (await process.end())[0] == 1


async def test_a_process_that_is_still_starting_stops_at_once(start: Start) -> None:
    process = await start("waits_for_start")
    await process.line("health endpoints on")

    process.signal(signal.SIGTERM)

    async with asyncio.timeout(4):
        assert (await process.end())[0] == 0


async def test_a_task_that_ignores_its_cancellation_does_not_keep_a_broken_process(start: Start) -> None:
    process = await start("dead_task_beside_one_that_clings")

    code, _, err = await process.end()

    assert code == 1
    assert "has not ended by itself" in err


async def test_a_wrong_setting_is_one_line_on_stderr_and_exit_code_2(start: Start) -> None:
    process = await start("orderly", CODE_NATS_REPLICAS="many")

    code, _, err = await process.end()

    assert code == 2
    assert err == (
        "sample: CODE_NATS_REPLICAS: not a whole number; accepted: how many servers keep a message, 1 to 5\n"
    )


async def test_a_health_port_that_is_taken_is_said_clearly(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start("orderly", CODE_HEALTH_PORT=str(port), CODE_HEALTH_HOST="127.0.0.1")

        record = await process.line("cannot listen")

        assert record["message"] == f"cannot listen on 127.0.0.1:{port} (CODE_HEALTH_PORT): Address already in use"
        assert (await process.end())[0] == 1
