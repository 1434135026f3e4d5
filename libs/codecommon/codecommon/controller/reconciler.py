"""What the author of a reconciler writes: the reconciler itself, and the controller that registers it for a kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from codecommon.api.kinds import KindSpec
from codecommon.api.meta import Condition, Resource
from codecommon.api.results import Outcome, Ready
from codecommon.controller.context import ReconcileContext

T = TypeVar("T", bound=Resource[Any, Any])


class Reconciler(Protocol[T]):
    """Makes one object true on its git host."""

    async def reconcile(self, ctx: ReconcileContext[T]) -> Outcome:
        """Observe the host, decide, act, and return what is true now. It is safe to run twice.

        Raises the interruptions of ``codecommon.api.results``. Any other exception counts as ``Retryable``
        (``InternalError``).
        """
        ...


def _never_due(obj: Resource[Any, Any], now: datetime) -> bool:
    return False


def _learns_a_condition(obj: Resource[Any, Any], finding: Condition) -> Ready:
    return Ready(conditions=(finding,))


@dataclass(frozen=True, slots=True)
class Controller(Generic[T]):
    """One kind and who reconciles it.

    ``owned``: condition types of the kind besides the summary ones. A ``Ready`` that does not name one of them removes
    it; an interruption leaves them. ``is_due``: whether a time has come that the object itself sets, such as the end of
    an access. What is due is worked on like a change, also when only the resync brings it: it must not be skipped when
    the host's budget is short. ``learn``: the status fields and conditions that follow from what another service has found
    out about the object (``ObjectEvent.finding``). Everything else in status stays.
    """

    kind: KindSpec[T]
    reconciler: Reconciler[T]
    owned: frozenset[str] = frozenset()
    is_due: Callable[[T, datetime], bool] = _never_due
    learn: Callable[[T, Condition], Ready] = _learns_a_condition
