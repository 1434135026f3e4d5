"""For whom the running task works: what layers far below a handler must know of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal

Urgency = Literal["interactive", "desired", "drift", "crawl"]
"""In falling order: a person waits; somebody declared something; a comparison by the clock; a look around."""


@dataclass(frozen=True, slots=True)
class Job:
    """``uid``: of the object; empty where nothing comes back by itself. ``workspace``: its logical-cluster ID."""

    urgency: Urgency
    uid: str = ""
    workspace: str = ""


_NOBODY: Final = Job("interactive")
_current: Final[ContextVar[Job | None]] = ContextVar("job", default=None)


@contextmanager
def working_on(job: Job) -> Iterator[None]:
    """What runs inside, tasks that it starts included, works on ``job``."""
    token = _current.set(job)
    try:
        yield
    finally:
        _current.reset(token)


def current_job() -> Job:
    """Outside of any job somebody is taken to be waiting."""
    return _current.get() or _NOBODY
