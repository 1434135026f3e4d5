"""``make down``: stops what `make up` or `make demo` in another terminal has left running."""

from __future__ import annotations

import fcntl
import os
import signal
import time

from devstack.demo.screen import Screen
from devstack.demo.session import lock_file

STOP_TIMEOUT = 60.0
LOOK_INTERVAL = 0.2


def down(screen: Screen) -> int:
    running = {name: pid for name in ("up", "demo") if (pid := _holder(name)) is not None}
    if not running:
        screen.say("nothing is running")
    stopped = [_stop(name, pid, screen) for name, pid in running.items()]
    return 0 if all(stopped) else 1


def _stop(name: str, pid: int, screen: Screen) -> bool:
    os.kill(pid, signal.SIGTERM)
    screen.say(f"asked `make {name}` (process {pid}) to stop")
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        if _holder(name) is None:
            screen.say("it is stopped, and everything that it had started")
            return True
        time.sleep(LOOK_INTERVAL)
    screen.say(f"it is still running after {STOP_TIMEOUT:g} s; `kill -9 {pid}` ends it and all its processes")
    return False


def _holder(name: str) -> int | None:
    """The process that holds the run's lock, or None: a number left by a run that has ended does not count."""
    path = lock_file(name)
    if not path.is_file():
        return None
    with path.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read() or 0) or None
    return None
