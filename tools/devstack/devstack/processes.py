"""Real processes for tests and demos: every wait has a bound, and nothing is left running.

A process runs in a session of its own, so Ctrl-C reaches only us and we decide the order in which things stop.
An orderly stop is SIGTERM to the whole group, then SIGKILL after a bound. If we are killed ourselves, the kernel sends
the process its `death_signal` (see `devstack.tether`).
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack import tether
from devstack.environment import inherited
from devstack.errors import BinaryMissing, DiskFull, NotReady, PortTaken, ProcessDied, StackError

MINIMUM_FREE_BYTES = 1 << 30
"""Free space that a run folder needs: kcp with embedded etcd refuses writes long before the disk is really full."""

PROBE_INTERVAL = 0.1
LINE_INTERVAL = 0.02
LOG_TAIL_LINES = 15

Probe = Callable[[], Awaitable[bool]]
"""Returns whether the process serves. It must not take longer than a second or two."""


class Process:
    """One child process with its log file.

    Use as ``async with Process(…) as process: await process.wait_ready(probe, timeout=30)``. Leaving the block stops
    it. stdout and stderr go to `log_file`. Without `env` it gets what `devstack.environment` passes on. `death_signal` is
    what the kernel sends if we die without stopping it: SIGKILL, or SIGTERM for a process that has children of its own to
    stop.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log_file: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_timeout: float = 10.0,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.name = name
        self.argv = [str(argument) for argument in argv]
        self.log_file = log_file
        self.env = inherited(os.environ) if env is None else dict(env)
        self.cwd = cwd
        self.stop_timeout = stop_timeout
        self.death_signal = death_signal
        self._process: asyncio.subprocess.Process | None = None
        self._log_offset = 0
        self._lines_seen = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise StackError(f"{self.name} is not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Starts the process and appends to its log. It need not serve yet when this returns."""
        if self.running:
            raise StackError(f"{self.name} is already running")
        if shutil.which(self.argv[0]) is None:
            raise BinaryMissing(f"{self.name}: {self.argv[0]} is missing: run `make setup tools`")
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.log_file.parent).free
        if free < MINIMUM_FREE_BYTES:
            raise DiskFull(f"{self.name}: only {free >> 20} MB free in {self.log_file.parent}, 1 GB is needed")
        with self.log_file.open("ab") as log:
            self._log_offset = log.tell()
            self._lines_seen = 0
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(Path(tether.__file__)),
                str(os.getpid()),
                str(int(self.death_signal)),
                *self.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                cwd=self.cwd,
                start_new_session=True,
            )

    @property
    def lines(self) -> list[str]:
        """The whole lines that this start of the process has written."""
        return self._log().split("\n")[:-1]

    def _log(self) -> str:
        if not self.log_file.is_file():
            return ""
        with self.log_file.open("rb") as log:
            log.seek(self._log_offset)
            return log.read().decode(errors="replace")

    async def line(self, pattern: str, *, timeout: float = 30.0) -> re.Match[str]:
        """The next line, after the one that the previous call found, in which `pattern` is found.

        Raises `ProcessDied` if the process ends without one, `NotReady` after `timeout` seconds.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            ended = not self.running
            for line in self.lines[self._lines_seen :]:
                self._lines_seen += 1
                if match := re.search(pattern, line):
                    return match
            if ended:
                raise ProcessDied(f"{self.name} ended without {pattern!r}{self._log_for_people()}")
            if asyncio.get_running_loop().time() > deadline:
                raise NotReady(f"{self.name}: no {pattern!r} within {timeout:g} s{self._log_for_people()}")
            await asyncio.sleep(LINE_INTERVAL)

    async def wait_ready(self, probe: Probe, *, timeout: float) -> None:
        """Returns once `probe` returns True. Raises if the process dies first or `timeout` seconds pass."""
        try:
            async with asyncio.timeout(timeout):
                while not await probe():
                    self.check_alive()
                    await asyncio.sleep(PROBE_INTERVAL)
                self.check_alive()  # something else on the same port may have answered
        except TimeoutError:
            self.check_alive()
            raise NotReady(f"{self.name} was not ready within {timeout:g} s{self._log_for_people()}") from None

    def check_alive(self) -> None:
        """Raises if the process has ended: `PortTaken` or `DiskFull` if its log says so, else `ProcessDied`."""
        if self.running:
            return
        code = None if self._process is None else self._process.returncode
        tail = self.tail()
        if "address already in use" in tail.lower():
            raise PortTaken(f"{self.name} could not listen: its port is in use{self._log_for_people()}")
        if "no space left on device" in tail.lower():
            raise DiskFull(f"{self.name} stopped: the disk is full{self._log_for_people()}")
        raise ProcessDied(f"{self.name} ended with exit code {code}{self._log_for_people()}")

    async def wait(self, timeout: float | None = None) -> int:
        """The exit code, once the process has ended by itself. Raises `TimeoutError` after `timeout` seconds."""
        if self._process is None:
            raise StackError(f"{self.name} is not started")
        async with asyncio.timeout(timeout):
            return await self._process.wait()

    async def stop(self) -> None:
        """Ends the process and everything in its group: SIGTERM, then SIGKILL after `stop_timeout` seconds.

        Does nothing if it is not running. Leaves nothing behind, even if cancelled.
        """
        if self._process is None:
            return
        try:
            self._signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.stop_timeout):
                    await self._process.wait()
        finally:
            # Unconditionally: children of the process may have outlived it.
            self._signal(signal.SIGKILL)
        await self._process.wait()
        self._process = None

    def terminate(self) -> None:
        """Tells the process to stop, and returns at once; `wait` says how it ended."""
        self._signal(signal.SIGTERM)

    async def kill(self) -> None:
        """Ends the whole group with SIGKILL, as a crash would: nothing gets a chance to clean up."""
        self._signal(signal.SIGKILL)
        await self.wait()
        self._process = None

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines that this start of the process has logged."""
        return "\n".join(self._log().splitlines()[-lines:])

    def _log_for_people(self) -> str:
        tail = self.tail()
        return f"; its log {self.log_file} ends with:\n{tail}" if tail else f"; its log {self.log_file} is empty"


async def wait_gone(*pids: int, timeout: float = 5.0) -> None:
    """Returns once these processes, which need not be our children, have ended. Raises `NotReady` after `timeout` seconds.

    A process that ended counts even if nobody has collected its exit code yet.
    """
    deadline = asyncio.get_running_loop().time() + timeout
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            while not select.select((handle,), (), (), 0)[0]:
                if asyncio.get_running_loop().time() > deadline:
                    raise NotReady(f"process {pid} still runs after {timeout:g} s")
                await asyncio.sleep(LINE_INTERVAL)
        finally:
            os.close(handle)
