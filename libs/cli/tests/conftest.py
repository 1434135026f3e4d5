import os
import re
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest


class Process:
    """A process and the lines of its stderr."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str] | None) -> None:
        self._process = subprocess.Popen(
            command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._seen = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lines(self) -> list[str]:
        with self._changed:
            return list(self._lines)

    def line(self, pattern: str, timeout: float = 30) -> re.Match[str]:
        """Wait for the next line, after the one found last, in which ``pattern`` is found."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                while self._seen < len(self._lines):
                    self._seen += 1
                    if match := re.search(pattern, self._lines[self._seen - 1]):
                        return match
                assert not self._ended, f"ended without {pattern!r}: {self._lines}"
                assert self._changed.wait(deadline - time.monotonic()), f"no {pattern!r} in time: {self._lines}"

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def exit_code(self, timeout: float = 30) -> int:
        code = self._process.wait(timeout)
        self._reader.join(timeout)
        return code

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@pytest.fixture
def start_process() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*command: str, environ: Mapping[str, str] | None = None) -> Process:
        process = Process(command, environ)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def wait_gone() -> Callable[..., None]:
    def wait(*pids: int, timeout: float = 5) -> None:
        """Wait until the processes, which are not our children, have ended."""
        deadline = time.monotonic() + timeout
        for pid in pids:
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            ended, _, _ = select.select((handle,), (), (), max(0.0, deadline - time.monotonic()))
            os.close(handle)
            assert ended, f"process {pid} is still there"

    return wait
