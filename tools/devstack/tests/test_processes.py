"""The process layer against small dummy processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from devstack.errors import BinaryMissing, DiskFull, NotReady, PortTaken, ProcessDied
from devstack.processes import Process

pytestmark = pytest.mark.slow

READY = "print('serving', flush=True); "
IGNORE_TERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
FOREVER = "import threading; threading.Event().wait()"


def python(tmp_path: Path, code: str, **options: object) -> Process:
    return Process("dummy", [sys.executable, "-c", code], log_file=tmp_path / "dummy.log", **options)  # type: ignore[arg-type]


def logged(process: Process, text: str):
    async def probe() -> bool:
        return text in process.tail()

    return probe


def open_fifo(tmp_path: Path) -> tuple[Path, int]:
    """A pipe that processes hold open: reading its end means that all of them are gone."""
    path = tmp_path / "alive"
    os.mkfifo(path)
    return path, os.open(path, os.O_RDONLY | os.O_NONBLOCK)


async def closed(descriptor: int) -> None:
    """Returns once nobody holds the other end of the pipe; raises TimeoutError after ten seconds."""
    at_end = asyncio.Event()

    def look() -> None:
        if os.read(descriptor, 4096) == b"":
            at_end.set()

    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, look)
    try:
        async with asyncio.timeout(10):
            await at_end.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def test_a_process_is_ready_once_its_probe_says_so(tmp_path: Path) -> None:
    async with python(tmp_path, READY + FOREVER) as process:
        await process.wait_ready(logged(process, "serving"), timeout=10)
        assert process.running


async def test_a_process_without_an_environment_of_its_own_gets_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_x")
    monkeypatch.setenv("LANG", "C.UTF-8")

    async with python(tmp_path, "import os; print(os.environ.get('GITHUB_TOKEN'), os.environ['LANG'])") as process:
        await process.line("^None C.UTF-8$")


async def test_leaving_the_block_stops_the_process(tmp_path: Path) -> None:
    async with python(tmp_path, READY + FOREVER) as process:
        await process.wait_ready(logged(process, "serving"), timeout=10)
        pid = process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_process_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    path, descriptor = open_fifo(tmp_path)
    child = f"{IGNORE_TERM}handle = open({str(path)!r}, 'w'); {READY}{FOREVER}"
    parent = f"{IGNORE_TERM}import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = python(tmp_path, parent, stop_timeout=0.2)
    await process.start()
    await process.wait_ready(logged(process, "serving"), timeout=10)
    await process.stop()
    await closed(descriptor)


async def test_children_that_outlive_their_process_are_killed_on_stop(tmp_path: Path) -> None:
    path, descriptor = open_fifo(tmp_path)
    child = f"handle = open({str(path)!r}, 'w'); {READY}{FOREVER}"
    spawn = f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)"
    process = python(tmp_path, f"import subprocess, sys; {spawn}; child.stdout.readline()")
    await process.start()
    await process.wait()
    await process.stop()
    await closed(descriptor)


async def test_processes_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    path, descriptor = open_fifo(tmp_path)
    held = f"{IGNORE_TERM}handle = open({str(path)!r}, 'w'); {READY}{FOREVER}"
    starter = f"""
import asyncio, sys
from pathlib import Path
from devstack.processes import Process

async def main():
    process = Process("held", [sys.executable, "-c", {held!r}], log_file=Path({str(tmp_path / "held.log")!r}))
    await process.start()
    async def ready():
        return "serving" in process.tail()
    await process.wait_ready(ready, timeout=10)
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    parent = python(tmp_path, starter)
    await parent.start()
    await parent.wait_ready(logged(parent, "started"), timeout=20)
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    if sys.platform == "linux":
        await closed(descriptor)
    await parent.stop()


async def test_a_process_that_dies_during_its_start_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    async with python(tmp_path, "raise SystemExit('the flag --colour is unknown')") as process:
        with pytest.raises(ProcessDied, match=r"exit code 1(?s:.)*the flag --colour is unknown"):
            await process.wait_ready(logged(process, "serving"), timeout=10)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("listen tcp 127.0.0.1:1: bind: address already in use", PortTaken),
        ("write /data/member: no space left on device", DiskFull),
    ],
)
async def test_known_reasons_for_dying_have_their_own_error(
    tmp_path: Path, message: str, error: type[Exception]
) -> None:
    async with python(tmp_path, f"raise SystemExit({message!r})") as process:
        with pytest.raises(error):
            await process.wait_ready(logged(process, "serving"), timeout=10)


async def test_a_yes_from_somebody_else_does_not_make_a_dead_process_ready(tmp_path: Path) -> None:
    async def yes() -> bool:
        await process.wait()
        return True

    async with python(tmp_path, "raise SystemExit(3)") as process:
        with pytest.raises(ProcessDied, match="exit code 3"):
            await process.wait_ready(yes, timeout=10)


async def test_waiting_for_readiness_is_bounded(tmp_path: Path) -> None:
    async with python(tmp_path, FOREVER) as process:
        with pytest.raises(NotReady, match=r"dummy was not ready within 0\.3 s"):
            await process.wait_ready(logged(process, "serving"), timeout=0.3)


async def test_a_missing_program_says_what_to_run(tmp_path: Path) -> None:
    process = Process("kcp", [tmp_path / "kcp"], log_file=tmp_path / "kcp.log")
    with pytest.raises(BinaryMissing, match="make setup tools"):
        await process.start()


async def test_an_earlier_run_in_the_same_log_file_is_not_taken_for_this_one(tmp_path: Path) -> None:
    for attempt in ("first", "second"):
        async with python(tmp_path, f"print({attempt!r}, flush=True); {FOREVER}") as process:
            await process.wait_ready(logged(process, attempt), timeout=10)
    assert "first" not in process.tail()
    assert (tmp_path / "dummy.log").read_text() == "first\nsecond\n"


async def test_a_cancelled_stop_still_kills_the_process(tmp_path: Path) -> None:
    path, descriptor = open_fifo(tmp_path)
    process = python(tmp_path, f"{IGNORE_TERM}handle = open({str(path)!r}, 'w'); {READY}{FOREVER}", stop_timeout=60)
    await process.start()
    await process.wait_ready(logged(process, "serving"), timeout=10)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await process.stop()
    await closed(descriptor)
    await process.stop()
