import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from devstack.processes import Process, wait_gone

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "supervised.py"

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
def supervise(start_process: Start) -> Start:
    async def start(*stages: str, first_delay: float = 0.1, healthy_after: float = 60, kill: float = 9) -> Process:
        return await start_process(
            sys.executable, str(SCRIPT), str(first_delay), str(healthy_after), str(kill), *stages
        )

    return start


async def test_a_program_that_crashes_is_started_again_after_a_growing_delay(supervise: Start) -> None:
    process = await supervise("crashing")

    delays = [
        (await process.line(r"supervisor: crashing exited with code 1; starting it again in (\S+) s"))[1]
        for _ in range(4)
    ]

    assert delays == ["0.1", "0.2", "0.4", "0.8"]


async def test_the_delay_starts_over_once_a_program_was_healthy(supervise: Start) -> None:
    process = await supervise("talking", healthy_after=0.1)

    delays = [(await process.line(r"starting it again in (\S+) s"))[1] for _ in range(3)]

    assert delays == ["0.1", "0.1", "0.1"]


async def test_a_delay_is_kept(supervise: Start) -> None:
    process = await supervise("crashing", first_delay=0.5)
    await process.line("starting it again in 0.5 s")
    crashed = time.monotonic()

    await process.line("crashing: up")

    assert time.monotonic() - crashed >= 0.45


async def test_a_program_that_is_killed_is_named_with_its_signal_and_started_again(supervise: Start) -> None:
    process = await supervise("steady")
    first = int((await process.line(r"steady: up (\d+)"))[1])

    os.kill(first, signal.SIGKILL)

    await process.line("steady was ended by SIGKILL; starting it again")
    assert int((await process.line(r"steady: up (\d+)"))[1]) != first


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_every_program_and_exits_with_0(supervise: Start, number: int) -> None:
    process = await supervise("steady,steady2")
    pids = [int((await process.line(r"up (\d+)"))[1]) for _ in range(2)]

    os.kill(process.pid, number)

    assert await process.wait(10) == 0
    await wait_gone(*pids)
    assert {"steady: stopped", "steady2: stopped"} <= set(process.lines)


async def test_a_later_stage_is_stopped_before_an_earlier_one(supervise: Start) -> None:
    process = await supervise("steady", "slow_to_stop")
    await process.line("slow_to_stop: up")

    os.kill(process.pid, signal.SIGTERM)

    assert await process.wait(10) == 0
    assert process.lines.index("slow_to_stop: stopped") < process.lines.index("steady: stopped")


async def test_a_program_that_ignores_the_request_is_killed_in_time(supervise: Start) -> None:
    process = await supervise("stubborn", kill=1)
    pid = int((await process.line(r"up (\d+)"))[1])
    asked = time.monotonic()

    os.kill(process.pid, signal.SIGTERM)

    assert await process.wait(5) == 0
    assert time.monotonic() - asked >= 1
    await wait_gone(pid)
    await process.line("stubborn has not stopped after 1 s and is killed")


async def test_a_stop_interrupts_the_wait_for_a_restart(supervise: Start) -> None:
    process = await supervise("crashing", first_delay=60)
    await process.line("starting it again in 30 s")

    os.kill(process.pid, signal.SIGTERM)

    assert await process.wait(5) == 0


async def test_an_exit_code_that_is_fatal_stops_everything_with_that_code(supervise: Start) -> None:
    process = await supervise("steady", "misconfigured")
    pid = int((await process.line(r"steady: up (\d+)"))[1])

    assert await process.wait(10) == 2
    await wait_gone(pid)
    await process.line("misconfigured exited with code 2; stopping")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
async def test_no_program_outlives_a_supervisor_that_was_killed(supervise: Start) -> None:
    process = await supervise("steady,stubborn")
    pids = [int((await process.line(r"up (\d+)"))[1]) for _ in range(2)]

    os.kill(process.pid, signal.SIGKILL)

    await wait_gone(*pids)


async def test_what_a_program_writes_comes_out_as_whole_lines(supervise: Start) -> None:
    process = await supervise("talking")

    await process.line("^talking: half a line$")
    await process.line("^talking: and one without an end$")


async def test_a_program_has_its_own_session_and_environment_and_nothing_of_its_parent(supervise: Start) -> None:
    process = await supervise("steady,surroundings")

    assert (await process.line("surroundings: session (.*)"))[1] == "True stdin b'' environ ['ONLY']"
    assert (await process.line(r"descriptors (\d+)"))[1] == "3"


async def test_a_task_is_tried_until_it_succeeds_and_then_never_again(
    supervise: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process = await supervise("task,crashing", first_delay=0.05)
    await process.line("task exited with code 1; starting it again in 0.05 s")
    await process.line("task: done")

    # The delays of the other one double, so by its fourth end the task would have run again.
    await process.line("crashing exited with code 1; starting it again in 0.4 s")
    os.kill(process.pid, signal.SIGTERM)

    assert await process.wait(10) == 0
    assert [line for line in process.lines if line.startswith("task: ")] == ["task: failed", "task: done"]


async def test_a_program_that_runs_once_is_done_with_exit_code_0_and_then_the_next_stage_starts(
    supervise: Start,
) -> None:
    process = await supervise("done", "steady")

    await process.line("steady: up")

    os.kill(process.pid, signal.SIGTERM)
    assert await process.wait(10) == 0
    assert process.lines.count("done: did it") == 1
    assert process.lines.index("done: did it") == 0
    assert not [line for line in process.lines if "starting it again" in line]


async def test_until_it_has_ended_well_a_program_that_runs_once_is_started_again_and_holds_up_the_next_stage(
    supervise: Start,
) -> None:
    process = await supervise("crashing2", "steady")

    for _ in range(2):
        await process.line("crashing2 exited with code 1; starting it again")

    assert not [line for line in process.lines if line.startswith("steady")]
