"""Keeps child processes running, and stops them in order.

One thread and no event loop: children are forked from this process for as long as it lives. Programs come in stages. A stage
is started once every program of the one before is ready, and stopped once the one after has ended.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Final, Self

from code_provider.children import Program, fork
from code_provider.lines import Lines

_log = logging.getLogger(__name__)

_READY_POLL_SECONDS: Final = 0.05
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds. ``kill``: how long after the request to stop whatever still runs is killed."""

    first_delay: float = 1.0
    longest_delay: float = 30.0
    healthy_after: float = 60.0
    kill: float = 9.0


@dataclass(slots=True)
class _Slot:
    """One program: its process, or when to start the next."""

    program: Program
    stage: int
    pid: int | None = None
    output: Lines | None = None
    started: float = 0.0
    due: float = 0.0
    crashes: int = 0
    ready: bool = False


@dataclass(slots=True)
class _Stop:
    """A stop under way. ``stage`` is the one that is being stopped; those after it have ended."""

    code: int
    stage: int
    kill_at: float
    killed: bool = field(default=False)


class Supervisor:
    """Use as a context manager, which takes over SIGTERM, SIGINT and SIGCHLD; then ``run``."""

    def __init__(self, timing: Timing = Timing()) -> None:
        self._timing = timing
        self._slots: list[_Slot] = []
        self._opened = 0
        self._stop: _Stop | None = None
        self._asked = False
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()

    def __enter__(self) -> Self:
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, self._drain_wakeups)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._release()

    def run(self, stages: Sequence[Sequence[Program]]) -> int:
        """Run the programs until a stop is asked for or one exits with a code that is fatal. Returns the exit code."""
        self._slots = [_Slot(program, stage) for stage, programs in enumerate(stages) for program in programs]
        while True:
            now = time.monotonic()
            if self._asked and self._stop is None:
                self._begin_stop(0, now)
            if self._stop is not None:
                self._advance_stop(self._stop, now)
                if not self._alive():
                    _log.info("stopped")
                    return self._stop.code
            else:
                self._start_what_is_due(now)
            for key, _ in self._selector.select(self._timeout(time.monotonic())):
                callback: Callable[[], None] = key.data
                callback()
            self._reap()

    # ---- starting

    def _start_what_is_due(self, now: float) -> None:
        for slot in self._slots:
            if slot.pid is not None and not slot.ready:
                slot.ready = slot.program.ready(slot.pid)
        last = self._slots[-1].stage
        while self._opened < last and all(slot.ready for slot in self._slots if slot.stage <= self._opened):
            self._opened += 1
        for slot in self._slots:
            if slot.pid is None and slot.stage <= self._opened and slot.due <= now:
                self._start(slot, now)

    def _start(self, slot: _Slot, now: float) -> None:
        slot.pid, reading = fork(slot.program, self._release)
        slot.output = Lines(reading, slot.program.log)
        slot.started = now
        self._selector.register(reading, selectors.EVENT_READ, lambda: self._read(slot))

    def _release(self) -> None:
        """Close what belongs to the supervisor; in a child, what it inherited of it."""
        for slot in self._slots:
            if slot.output is not None:
                slot.output.close()
        self._selector.close()
        self._woken.close()
        self._waker.close()

    # ---- waiting

    def _timeout(self, now: float) -> float | None:
        """Seconds until there is something to do without being woken."""
        if self._stop is not None:
            return None if self._stop.killed else max(0.0, self._stop.kill_at - now)
        due = [slot.due for slot in self._slots if slot.pid is None and slot.stage <= self._opened]
        if any(slot.pid is not None and not slot.ready for slot in self._slots):
            due.append(now + _READY_POLL_SECONDS)
        return max(0.0, min(due) - now) if due else None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._asked = True

    def _drain_wakeups(self) -> None:
        self._woken.recv(4096)

    def _read(self, slot: _Slot) -> None:
        if slot.output is not None and not slot.output.read():
            self._finish_output(slot)

    def _finish_output(self, slot: _Slot) -> None:
        if slot.output is not None:
            self._selector.unregister(slot.output.fd)
            slot.output.finish()
            slot.output = None

    # ---- ends

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # As the first process of a container this one inherits orphans that are none of its own.
            slot = next((slot for slot in self._slots if slot.pid == pid), None)
            if slot is not None:
                self._ended(slot, os.waitstatus_to_exitcode(status), time.monotonic())

    def _ended(self, slot: _Slot, code: int, now: float) -> None:
        self._finish_output(slot)
        slot.pid = None
        if self._stop is not None:
            return
        name = slot.program.name
        if code in slot.program.fatal:
            _log.error("%s exited with code %d; stopping", name, code)
            self._begin_stop(code, now)
            return
        if now - slot.started >= self._timing.healthy_after:
            slot.crashes = 0
        delay = min(self._timing.first_delay * 2**slot.crashes, self._timing.longest_delay)
        slot.crashes += 1
        slot.due = now + delay
        _log.error("%s %s; starting it again in %g s", name, _how(code), delay)

    # ---- stopping

    def _alive(self, stage: int | None = None) -> list[int]:
        return [slot.pid for slot in self._slots if slot.pid is not None and stage in (None, slot.stage)]

    def _begin_stop(self, code: int, now: float) -> None:
        _log.info("stopping")
        self._stop = _Stop(code, self._opened + 1, now + self._timing.kill)

    def _advance_stop(self, stop: _Stop, now: float) -> None:
        while stop.stage > 0 and not self._alive(stop.stage):
            stop.stage -= 1
            for pid in self._alive(stop.stage):
                os.kill(pid, signal.SIGTERM)
        if now >= stop.kill_at and not stop.killed:
            stop.killed = True
            for slot in self._slots:
                if slot.pid is not None:
                    _log.error("%s has not stopped after %g s and is killed", slot.program.name, self._timing.kill)
                    os.kill(slot.pid, signal.SIGKILL)


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
