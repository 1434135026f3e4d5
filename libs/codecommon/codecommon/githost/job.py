"""The job that the running task works on. The HTTP layers, far below a handler, read it from the task's context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
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


_OUTSIDE: Final = Job("interactive")
_current: Final[ContextVar[Job | None]] = ContextVar("job", default=None)


@contextmanager
def working_on(job: Job) -> Iterator[None]:
    """The block, and every task that it starts, works on ``job``."""
    token = _current.set(job)
    try:
        yield
    finally:
        _current.reset(token)


def current_job() -> Job:
    """Outside of ``working_on`` the job is interactive."""
    return _current.get() or _OUTSIDE
