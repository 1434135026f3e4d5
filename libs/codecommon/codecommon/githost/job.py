"""The job that the running task works on. The HTTP layers, far below a handler, read it from the task's context."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Literal

Urgency = Literal["interactive", "desired", "drift", "crawl"]
"""How urgent a request is, most urgent first.

``interactive``: a person waits for the answer. ``desired``: somebody declared something. ``drift``: the periodic comparison of an
object with its host. ``crawl``: an inventory of what the host has.
"""


@dataclass(frozen=True, slots=True)
class Job:
    """``uid``: of the object; empty for a job that does not come back by itself. ``workspace``: its logical-cluster ID."""

    urgency: Urgency
    uid: str = ""
    workspace: str = ""


@dataclass(slots=True)
class _Running:
    """``held``: what is left when the job ends, ``keys`` by which it is known. ``over``: a task that it started may go on."""

    job: Job
    held: ExitStack
    keys: set[str] = field(default_factory=set[str])
    over: bool = False


_OUTSIDE: Final = Job("interactive")
_current: Final[ContextVar[_Running | None]] = ContextVar("job", default=None)


@contextmanager
def working_on(job: Job) -> Iterator[None]:
    """The block, and every task that it starts, works on ``job``."""
    with ExitStack() as held:
        running = _Running(job, held)
        token = _current.set(running)
        try:
            yield
        finally:
            running.over = True
            _current.reset(token)


def current_job() -> Job:
    """Outside of ``working_on`` the job is interactive."""
    running = _current.get()
    return running.job if running is not None else _OUTSIDE


@contextmanager
def held_by_job(key: str, enter: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Enter what ``enter`` makes, once for each ``key``, and leave it when the running job ends.

    Outside of a job it is left with the block. Raises what entering raises.
    """
    running = _current.get()
    if running is None or running.over:
        with enter():
            yield
        return
    if key not in running.keys:
        running.held.enter_context(enter())
        running.keys.add(key)
    yield
