"""What a service tells the runtime: its kinds and who reconciles each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from codecommon.api.kinds import KindSpec
from codecommon.api.meta import Resource
from codecommon.api.results import Outcome
from codecommon.controller.context import ReconcileContext
from codecommon.messaging import locks

T = TypeVar("T", bound=Resource[Any, Any])


class Reconciler(Protocol[T]):
    async def reconcile(self, ctx: ReconcileContext[T]) -> Outcome:
        """Make the host match the object. Safe to run twice; raises what ``codecommon.api.results`` defines."""
        ...


def _nothing_is_due(obj: Resource[Any, Any], now: datetime) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Controller(Generic[T]):
    """One kind and who reconciles it. ``owned``: condition types of the kind besides the summary ones.

    ``due``: whether a time has come that the object itself sets, such as the end of an access. What is due is worked on like a
    change, even if only the resync tells of the object: it must not be skipped for want of budget.
    """

    kind: KindSpec[Any]
    parse: type[T]
    reconciler: Reconciler[T]
    owned: frozenset[str] = frozenset()
    due: Callable[[T, datetime], bool] = _nothing_is_due


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
