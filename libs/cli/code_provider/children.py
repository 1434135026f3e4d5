"""Child processes that are forked, not executed, so that they share their parent's memory.

The parent has no threads and no event loop: what a fork copies is in a known state.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
# Looked up before any fork; the symbol exists on Linux only.
_PRCTL: Final = getattr(ctypes.CDLL(None), "prctl", None)


@dataclass(frozen=True, slots=True)
class Program:
    """Something to keep running.

    ``run`` is called in the child; what it returns, or exits with, is the exit code. ``environ`` is evaluated in the child and
    becomes its environment. ``ready`` is asked in the parent, with the child's pid, until it says yes once. ``log`` gets each
    line that the child writes. An exit code in ``fatal`` ends the whole, with that code.
    """

    name: str
    run: Callable[[], int]
    environ: Callable[[], Mapping[str, str]]
    log: Callable[[bytes], None]
    ready: Callable[[int], bool] = lambda pid: True
    fatal: frozenset[int] = frozenset()


def fork(program: Program, release: Callable[[], None]) -> tuple[int, int]:
    """Start ``program``. Returns its pid and the reading end of what it writes to stdout and stderr.

    ``release`` closes, in the child, what only the parent may hold.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    reading, writing = os.pipe()
    parent = os.getpid()
    # Until the child has put the parent's handlers away, a signal must wait.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _be(program, parent, writing, release, blocked)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    os.close(writing)
    os.set_blocking(reading, False)
    return pid, reading


def _be(
    program: Program,
    parent: int,
    output: int,
    release: Callable[[], None],
    mask: Iterable[int],
) -> NoReturn:
    code = 1
    try:
        _die_with(parent, program.name)
        # A session of its own: Ctrl-C in the terminal reaches the supervisor only, which stops all in order.
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        release()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        gc.enable()
        # The environment of a program, as execve would give it: the OpenTelemetry SDK and OpenSSL read it themselves.
        variables = dict(program.environ())
        os.environ.clear()
        os.environ.update(variables)
        code = program.run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - the end of the child: above here is the parent's stack, which is not its own
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _die_with(parent: int, name: str) -> None:
    """Have the kernel kill this process when its parent is gone."""
    if _PRCTL is None:
        return
    _PRCTL(_PR_SET_NAME, name.encode())
    _PRCTL(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)
