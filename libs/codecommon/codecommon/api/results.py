"""What reconciling one object can end in: returned as ``Ready`` or ``Released``, raised as an ``Interruption``.

Reconcilers and adapters return and raise; only ``codecommon.controller`` interprets. An exception that is none of these
counts as ``Retryable`` with reason ``InternalError``: what we do not understand is never final.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, Self

from codecommon.api.meta import Condition
from codecommon.api.reasons import Reason

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Ready:
    """The object is true on the host.

    ``status``: the kind's own status fields by wire name; a field left out keeps its value, None removes it.
    ``conditions``: further conditions that hold now; those the kind owns and that are not named here are removed.
    ``requeue_after``: after this time the object is reconciled again, even if nothing has changed. A time that is further off
    than an hour and than the resync interval is left to the resync.
    """

    status: Mapping[str, Any] = field(default_factory=dict[str, Any])
    conditions: tuple[Condition, ...] = ()
    message: str = ""
    requeue_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """Nothing of ours is left to clean up: the finalizer may leave."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Status says already what is true, and nothing is written. ``requeue_after``: as of ``Ready``."""

    requeue_after: timedelta | None = None


Outcome = Ready | Released | Unchanged


class Interruption(Exception):
    """Base of the three results that a reconciler raises. It cannot be changed; ``learned`` makes a new one that says
    more.

    Args:
        reason: of the conditions that follow from it.
        message: what is wrong and what to do about it, for a person; redacted before it is written anywhere.
        conditions: further conditions of the kind to set with it (``observed_generation`` and times are filled in).
        status: status fields learned before giving up (wire names), such as an id from the host, that must not be lost.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        conditions: tuple[Condition, ...] = (),
        status: Mapping[str, Any] = _NOTHING,
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self._reason = reason
        self._message = message
        self._conditions = conditions
        self._status = MappingProxyType(dict(status))

    @property
    def reason(self) -> Reason:
        return self._reason

    @property
    def message(self) -> str:
        return self._message

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return self._conditions

    @property
    def status(self) -> Mapping[str, Any]:
        return self._status

    def learned(self, status: Mapping[str, Any] = _NOTHING, *conditions: Condition) -> Self:
        """The same result with more to record: ``status`` fields (wire names) and ``conditions``.

        Where both name a field, what this result says is kept: it was found out later.
        """
        more = self._copy()
        more._status = MappingProxyType({**status, **self._status})
        more._conditions = (*self._conditions, *conditions)
        return more

    def reworded(self, message: str) -> Self:
        """The same result, of the same type, with another message."""
        other = self._copy()
        other._message = message
        other.args = (f"{self._reason}: {message}",)
        return other

    def _copy(self) -> Self:
        copy = type(self).__new__(type(self), *self.args)
        copy.__dict__.update(self.__dict__)
        return copy


class Terminal(Interruption):
    """The user must act. A change of spec or of a dependency wakes the object; the resync tries again."""


class NotReady(Interruption):
    """Waits for another object, whose event wakes this one, or for somebody to act on the host.

    ``requeue_after``: as of ``Ready``.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        requeue_after: timedelta | None = None,
        conditions: tuple[Condition, ...] = (),
        status: Mapping[str, Any] = _NOTHING,
    ) -> None:
        super().__init__(reason, message, conditions=conditions, status=status)
        self._requeue_after = requeue_after

    @property
    def requeue_after(self) -> timedelta | None:
        return self._requeue_after


class Retryable(Interruption):
    """Rate limit, 5xx, timeout, conflict: tried again after ``after`` (None: the engine's growing back-off).

    ``exact``: the time is reserved for this object, so it is kept to the moment, and waiting for it is no failure.
    ``drift_after``: what prevents a comparison by the clock is over after this time, so it is tried again then, a few times.
    None: it waits for its next turn.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        after: timedelta | None = None,
        exact: bool = False,
        drift_after: timedelta | None = None,
        conditions: tuple[Condition, ...] = (),
        status: Mapping[str, Any] = _NOTHING,
    ) -> None:
        super().__init__(reason, message, conditions=conditions, status=status)
        self._after = after
        self._exact = exact
        self._drift_after = drift_after

    @property
    def after(self) -> timedelta | None:
        return self._after

    @property
    def exact(self) -> bool:
        return self._exact

    @property
    def drift_after(self) -> timedelta | None:
        return self._drift_after
