"""A supervisor over small programs. ``test_serve_supervisor.py`` runs it as a process.

    supervised.py FIRST_DELAY HEALTHY_AFTER KILL STAGE…      (a stage is NAME[,NAME…])

What a program writes goes through its log to stderr, as ``NAME: text``.
"""

import functools
import logging
import os
import signal
import sys
import time
from pathlib import Path

from code_provider.children import Program
from code_provider.supervisor import Supervisor, Timing


def say(text: str) -> None:
    print(text, flush=True)


def wait_for_the_end() -> None:
    while True:
        time.sleep(60)


def steady() -> int:
    def stop(number: int, frame: object) -> None:
        say("stopped")
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    say(f"up {os.getpid()}")
    wait_for_the_end()
    return 0


def slow_to_stop() -> int:
    # Blocked, so that a signal that comes right after "up" is kept until it is waited for.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    say(f"up {os.getpid()}")
    signal.sigwait({signal.SIGTERM})
    time.sleep(0.3)
    say("stopped")
    return 0


def crashing() -> int:
    say(f"up {os.getpid()}")
    raise OSError("out of luck")


def stubborn() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(f"up {os.getpid()}")
    wait_for_the_end()
    return 0


def misconfigured() -> int:
    sys.exit(2)


def talking() -> int:
    os.write(1, b"half ")
    os.write(1, b"a line\nand one without an end")
    time.sleep(0.2)
    return 0


def surroundings() -> int:
    say(f"session {os.getsid(0) == os.getpid()} stdin {os.read(0, 1)!r} environ {sorted(os.environ)}")
    say(f"descriptors {len(os.listdir('/proc/self/fd')) - 1}")
    wait_for_the_end()
    return 0


def task() -> int:
    """Fails, and succeeds the second time."""
    again = TRIED.exists()
    TRIED.touch()
    say("done" if again else "failed")
    return 0 if again else 1


def done() -> int:
    say("did it")
    return 0


RUNS = (steady, slow_to_stop, crashing, stubborn, misconfigured, talking, surroundings, task, done)
PROGRAMS = {run.__name__: run for run in RUNS}
TRIED = Path("tried")


def log(name: str, line: bytes) -> None:
    os.write(2, f"{name}: {line.decode()}\n".encode())


def program(name: str) -> Program:
    return Program(
        name,
        run=PROGRAMS[name.rstrip("2")],
        environ=lambda: {"ONLY": "this"},
        log=functools.partial(log, name),
        fatal=frozenset({2}),
        once=name in ("task", "done", "crashing2"),
    )


def main(first_delay: str, healthy_after: str, kill: str, *stages: str) -> int:
    logging.basicConfig(format="supervisor: %(message)s", level=logging.INFO)
    timing = Timing(first_delay=float(first_delay), healthy_after=float(healthy_after), kill=float(kill))
    with Supervisor(timing) as supervisor:
        return supervisor.run([[program(name) for name in stage.split(",")] for stage in stages])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
