import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "supervised.py"

Start = Callable[..., Any]


@pytest.fixture
def supervise(start_process: Callable[..., Any]) -> Start:
    def start(*stages: str, first_delay: float = 0.1, healthy_after: float = 60, kill: float = 9) -> Any:
        return start_process(sys.executable, str(SCRIPT), str(first_delay), str(healthy_after), str(kill), *stages)

    return start


def test_a_program_that_crashes_is_started_again_after_a_growing_delay(supervise: Start) -> None:
    process = supervise("crashing")

    delays = [
        process.line(r"supervisor: crashing exited with code 1; starting it again in (\S+) s")[1] for _ in range(4)
    ]

    assert delays == ["0.1", "0.2", "0.4", "0.8"]


def test_the_delay_starts_over_once_a_program_was_healthy(supervise: Start) -> None:
    process = supervise("talking", healthy_after=0.1)

    delays = [process.line(r"starting it again in (\S+) s")[1] for _ in range(3)]

    assert delays == ["0.1", "0.1", "0.1"]


def test_a_delay_is_kept(supervise: Start) -> None:
    process = supervise("crashing", first_delay=0.5)
    process.line("starting it again in 0.5 s")
    crashed = time.monotonic()

    process.line("crashing: up")

    assert time.monotonic() - crashed >= 0.45


def test_a_program_that_is_killed_is_named_with_its_signal_and_started_again(supervise: Start) -> None:
    process = supervise("steady")
    first = int(process.line(r"steady: up (\d+)")[1])

    os.kill(first, signal.SIGKILL)

    process.line("steady was ended by SIGKILL; starting it again")
    assert int(process.line(r"steady: up (\d+)")[1]) != first


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_every_program_and_exits_with_0(supervise: Start, wait_gone: Any, number: int) -> None:
    process = supervise("steady,steady2")
    pids = [int(process.line(r"up (\d+)")[1]) for _ in range(2)]

    process.signal(number)

    assert process.exit_code(timeout=10) == 0
    wait_gone(*pids)
    assert {"steady: stopped", "steady2: stopped"} <= set(process.lines)


def test_a_later_stage_is_stopped_before_an_earlier_one(supervise: Start) -> None:
    process = supervise("steady", "slow_to_stop")
    process.line("slow_to_stop: up")

    process.signal(signal.SIGTERM)

    assert process.exit_code(timeout=10) == 0
    assert process.lines.index("slow_to_stop: stopped") < process.lines.index("steady: stopped")


def test_a_program_that_ignores_the_request_is_killed_in_time(supervise: Start, wait_gone: Any) -> None:
    process = supervise("stubborn", kill=1)
    pid = int(process.line(r"up (\d+)")[1])
    asked = time.monotonic()

    process.signal(signal.SIGTERM)

    assert process.exit_code(timeout=5) == 0
    assert time.monotonic() - asked >= 1
    wait_gone(pid)
    process.line("stubborn has not stopped after 1 s and is killed")


def test_a_stop_interrupts_the_wait_for_a_restart(supervise: Start) -> None:
    process = supervise("crashing", first_delay=60)
    process.line("starting it again in 30 s")

    process.signal(signal.SIGTERM)

    assert process.exit_code(timeout=5) == 0


def test_an_exit_code_that_is_fatal_stops_everything_with_that_code(supervise: Start, wait_gone: Any) -> None:
    process = supervise("steady", "misconfigured")
    pid = int(process.line(r"steady: up (\d+)")[1])

    assert process.exit_code(timeout=10) == 2
    wait_gone(pid)
    process.line("misconfigured exited with code 2; stopping")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
def test_no_program_outlives_a_supervisor_that_was_killed(supervise: Start, wait_gone: Any) -> None:
    process = supervise("steady,stubborn")
    pids = [int(process.line(r"up (\d+)")[1]) for _ in range(2)]

    process.signal(signal.SIGKILL)

    wait_gone(*pids)


def test_what_a_program_writes_comes_out_as_whole_lines(supervise: Start) -> None:
    process = supervise("talking")

    process.line("^talking: half a line$")
    process.line("^talking: and one without an end$")


def test_a_program_has_its_own_session_and_environment_and_nothing_of_its_parent(supervise: Start) -> None:
    process = supervise("steady,surroundings")

    assert process.line("surroundings: session (.*)")[1] == "True stdin b'' environ ['ONLY']"
    assert process.line(r"descriptors (\d+)")[1] == "3"
