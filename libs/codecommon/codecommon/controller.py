"""What a service tells the runtime: its kinds and who reconciles each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from codecommon import locks
from codecommon.api.kinds import Kind
from codecommon.api.meta import Resource
from codecommon.outcome import Outcome
from codecommon.passes import Pass

T = TypeVar("T", bound=Resource[Any, Any])


class Reconciler(Protocol[T]):
    async def reconcile(self, run: Pass[T]) -> Outcome:
        """Make the host match the object. Safe to run twice; raises what ``codecommon.errors`` defines."""
        ...


@dataclass(frozen=True, slots=True)
class Controller(Generic[T]):
    """One kind and who reconciles it. ``owned``: condition types of the kind besides the summary ones."""

    kind: Kind
    parse: type[T]
    reconciler: Reconciler[T]
    owned: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Timing:
    """The periods of a runtime, in seconds.

    ``fetch``: how long one request for a message waits. ``announce_after``: a pass that takes longer says so in status.
    ``renew`` and ``lost_after``: of locks. ``set_aside``: how long a message rests that keeps ending its process.
    """

    fetch: float = 2.0
    announce_after: float = 2.0
    renew: float = locks.RENEW_SECONDS
    lost_after: float = locks.LOST_AFTER_SECONDS
    set_aside: float = 600.0
