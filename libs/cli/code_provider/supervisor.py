"""Keeps programs running as child processes, and stops them in order.

It has one thread and no event loop, because it forks for as long as it lives. Programs come in stages. A stage starts once every
program of the stage before is ready. It stops once the stage after it has ended.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Final, Self

from code_provider.children import Output, Program, fork

_log = logging.getLogger(__name__)

_READY_POLL_SECONDS: Final = 0.05
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class Timing:
    """All in seconds.

    A program that ends is started again after ``first_delay``, which doubles with every end in a row up to ``longest_delay``. A
    run of ``healthy_after`` begins a new row. ``kill`` after a stop began, whatever still runs is killed.
    """

    first_delay: float = 1.0
    longest_delay: float = 30.0
    healthy_after: float = 60.0
    kill: float = 9.0


@dataclass(slots=True)
class _Child:
    """A running program."""

    pid: int
    output: Output
    started: float
    ready: bool = False


@dataclass(slots=True)
class _Slot:
    """One program, and its child while it runs. ``due`` is when to start it, ``ends`` how often it ended in a row.

    ``done``: it runs once, and has.
    """

    program: Program
    stage: int
    child: _Child | None = None
    due: float = 0.0
    ends: int = 0
    done: bool = False

    @property
    def waits(self) -> bool:
        """Whether it is to be started, now or later."""
        return self.child is None and not self.done


@dataclass(slots=True)
class _Stop:
    """A stop under way. ``stage`` is being stopped; the stages after it have ended."""

    code: int
    stage: int
    kill_at: float
    killed: bool = False


class Supervisor:
    """Use as a context manager, which takes over SIGTERM, SIGINT and SIGCHLD. Then call ``run``."""

    def __init__(self, timing: Timing = Timing()) -> None:
        self._timing = timing
        self._slots: list[_Slot] = []
        self._open_stage = 0
        self._asked_to_stop = False
        self._stop: _Stop | None = None
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()

    def __enter__(self) -> Self:
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, lambda: self._woken.recv(4096))
        # A signal interrupts the wait: its handler runs, and a byte arrives at ``_woken``.
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._release()

    def run(self, stages: Sequence[Sequence[Program]]) -> int:
        """Run the programs until a signal asks to stop, or one exits with a code that is fatal. Returns the exit code."""
        self._slots = [_Slot(program, stage) for stage, programs in enumerate(stages) for program in programs]
        while True:
            now = time.monotonic()
            if self._asked_to_stop and self._stop is None:
                self._begin_stop(0, now)
            if self._stop is None:
                self._start_what_is_due(now)
            else:
                self._advance_stop(self._stop, now)
                if not self._running():
                    _log.info("stopped")
                    return self._stop.code
            for key, _ in self._selector.select(self._timeout(time.monotonic())):
                callback: Callable[[], object] = key.data
                callback()
            self._reap()

    def _timeout(self, now: float) -> float | None:
        """Seconds until there is something to do even if nothing happens; None: there is nothing."""
        if self._stop is not None:
            return None if self._stop.killed else max(0.0, self._stop.kill_at - now)
        moments = [slot.due for slot in self._slots if slot.waits and slot.stage <= self._open_stage]
        if any(not child.ready for _, child in self._running()):
            moments.append(now + _READY_POLL_SECONDS)
        return max(0.0, min(moments) - now) if moments else None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._asked_to_stop = True

    def _running(self, stage: int | None = None) -> list[tuple[_Slot, _Child]]:
        return [(s, s.child) for s in self._slots if s.child is not None and stage in (None, s.stage)]

    def _release(self) -> None:
        """Close what belongs to the supervisor. A child calls it for what it has inherited."""
        for _, child in self._running():
            child.output.close()
        self._selector.close()
        self._woken.close()
        self._waker.close()

    # ---- starting

    def _start_what_is_due(self, now: float) -> None:
        for slot, child in self._running():
            child.ready = child.ready or (not slot.program.once and slot.program.ready(child.pid))
        while self._open_stage < self._slots[-1].stage and self._all_ready():
            self._open_stage += 1
        for slot in self._slots:
            if slot.waits and slot.stage <= self._open_stage and slot.due <= now:
                self._start(slot, now)

    def _all_ready(self) -> bool:
        """Whether every program of the stages that are open runs and is ready."""
        opened = [slot for slot in self._slots if slot.stage <= self._open_stage]
        return all(slot.done or (slot.child is not None and slot.child.ready) for slot in opened)

    def _start(self, slot: _Slot, now: float) -> None:
        pid, output = fork(slot.program, self._release)
        slot.child = _Child(pid, output, started=now)
        self._selector.register(output.fd, selectors.EVENT_READ, lambda: self._read(output))

    def _read(self, output: Output) -> None:
        if not output.read():
            # Its end has come before that of the process, which closes it.
            self._selector.unregister(output.fd)

    # ---- ends

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # The first process of a container inherits orphans, too; those are in no slot.
            for slot, child in self._running():
                if child.pid == pid:
                    self._ended(slot, child, os.waitstatus_to_exitcode(status), time.monotonic())

    def _ended(self, slot: _Slot, child: _Child, code: int, now: float) -> None:
        if child.output.fd in self._selector.get_map():
            self._selector.unregister(child.output.fd)
        child.output.finish()
        slot.child = None
        if self._stop is not None:
            return
        if slot.program.once and code == 0:
            slot.done = True
            return
        name = slot.program.name
        if code in slot.program.fatal:
            _log.error("%s exited with code %d; stopping", name, code)
            self._begin_stop(code, now)
            return
        if now - child.started >= self._timing.healthy_after:
            slot.ends = 0
        delay = min(self._timing.first_delay * 2**slot.ends, self._timing.longest_delay)
        slot.ends += 1
        slot.due = now + delay
        _log.error("%s %s; starting it again in %g s", name, _how(code), delay)

    # ---- stopping

    def _begin_stop(self, code: int, now: float) -> None:
        _log.info("stopping")
        self._stop = _Stop(code, self._open_stage + 1, now + self._timing.kill)

    def _advance_stop(self, stop: _Stop, now: float) -> None:
        while stop.stage > 0 and not self._running(stop.stage):
            stop.stage -= 1
            for _, child in self._running(stop.stage):
                os.kill(child.pid, signal.SIGTERM)
        if now >= stop.kill_at and not stop.killed:
            stop.killed = True
            for slot, child in self._running():
                _log.error("%s has not stopped after %g s and is killed", slot.program.name, self._timing.kill)
                os.kill(child.pid, signal.SIGKILL)


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
