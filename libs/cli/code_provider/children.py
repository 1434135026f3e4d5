"""Child processes that are forked and not executed, so that they share their parent's memory.

The parent has no threads and no event loop, so a fork copies nothing in the middle of a change.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
# Looked up before any fork. The symbol exists on Linux only.
_PRCTL: Final = getattr(ctypes.CDLL(None), "prctl", None)
_CHUNK: Final = 65536
_LONGEST_LINE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Program:
    """Something to keep running.

    ``run`` is called in the child. What it returns, or exits with, is the exit code. ``environ`` is evaluated in the child and
    becomes its environment. ``log`` gets each line that the child writes. ``ready`` is asked in the parent, with the child's pid,
    until it returns True once. An exit code in ``fatal`` stops all programs. A program that runs ``once`` is ready when it has
    exited with 0; until then it is started again like any other.
    """

    name: str
    run: Callable[[], int]
    environ: Callable[[], Mapping[str, str]]
    log: Callable[[bytes], None]
    ready: Callable[[int], bool] = lambda pid: True
    fatal: frozenset[int] = frozenset()
    once: bool = False


class Output:
    """What a child writes to stdout and stderr, cut into lines without their line feed."""

    def __init__(self, fd: int, log: Callable[[bytes], None]) -> None:
        self.fd = fd
        self._log = log
        self._rest = b""

    def read(self) -> bool:
        """Log the lines that are complete. Returns False once there will be no more."""
        while True:
            try:
                chunk = os.read(self.fd, _CHUNK)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._log(line)
            if len(self._rest) > _LONGEST_LINE:
                self._log_rest()

    def finish(self) -> None:
        """Log what is left, even without an end of line, and close."""
        self.read()
        self._log_rest()
        self.close()

    def close(self) -> None:
        os.close(self.fd)

    def _log_rest(self) -> None:
        if self._rest:
            self._log(self._rest)
            self._rest = b""


def fork(program: Program, release: Callable[[], None]) -> tuple[int, Output]:
    """Start ``program``. Returns its pid and its output.

    ``release`` is called in the child and closes what only the parent may hold.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    reading, writing = os.pipe()
    parent = os.getpid()
    # A signal to stop that arrives before the child has removed the parent's handlers would be lost.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _run(program, parent, writing, release, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(writing)
    os.set_blocking(reading, False)
    return pid, Output(reading, program.log)


def _run(
    program: Program, parent: int, output: int, release: Callable[[], None], mask: set[signal.Signals | int]
) -> NoReturn:
    """Be the child: take leave of the parent, run the program, and exit."""
    code = 1
    try:
        _end_with(parent)
        if _PRCTL is not None:
            _PRCTL(_PR_SET_NAME, program.name.encode())
        # A session of its own: Ctrl-C in the terminal reaches only the supervisor, which stops all in order.
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        release()
        null = os.open(os.devnull, os.O_RDONLY)
        for fd, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(fd, target)
        os.close(null)
        os.close(output)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        gc.enable()
        # Exactly this environment, as execve would give it: the OpenTelemetry SDK and OpenSSL read it themselves.
        variables = dict(program.environ())
        os.environ.clear()
        os.environ.update(variables)
        code = program.run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - nothing may return into the parent's stack, which this process has a copy of
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends."""
    if _PRCTL is None:
        return
    _PRCTL(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)
