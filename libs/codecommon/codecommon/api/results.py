"""What reconciling one object can end in: returned as ``Ready`` or ``Released``, raised as an ``Interruption``.

Reconcilers and adapters return and raise; only ``codecommon.controller`` interprets. An exception that is none of these counts as
``Retryable`` with reason ``InternalError``: what we do not understand is never final.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from codecommon.api.meta import Condition


class Interruption(Exception):
    """Base of the three results a reconciler can raise.

    Args:
        reason: CamelCase condition reason, listed in docs/conditions.md.
        message: what is wrong and what to do about it, for a person; redacted before it is written anywhere.
        conditions: further conditions of the kind to set with it (``observed_generation`` and times are filled in).
        status: status fields learned before giving up (wire names), such as an id from the host, that must not be lost.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        conditions: tuple[Condition, ...] = (),
        status: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.conditions = conditions
        self.status: Mapping[str, Any] = status or {}


class Terminal(Interruption):
    """The user must act. A change of spec or of a dependency wakes the object; the resync tries again."""


class NotReady(Interruption):
    """Waits for another object, whose event wakes this one, or for somebody to act on the host. ``again``: as of ``Ready``."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        again: timedelta | None = None,
        conditions: tuple[Condition, ...] = (),
        status: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(reason, message, conditions=conditions, status=status)
        self.again = again


class Retryable(Interruption):
    """Rate limit, 5xx, timeout, conflict: tried again after ``after`` (None: the runtime's growing back-off).

    ``exact``: the time is reserved for this object, so it is kept to the moment, and waiting for it is no failure.
    ``half_done``: a comparison by the clock began to change something, so what is left is not put off to the next one.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        after: timedelta | None = None,
        exact: bool = False,
        conditions: tuple[Condition, ...] = (),
        status: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(reason, message, conditions=conditions, status=status)
        self.after = after
        self.exact = exact
        self.half_done = False


@dataclass(frozen=True, slots=True)
class Ready:
    """The object is true on the host.

    ``status``: the kind's own status fields by wire name; a field left out keeps its value, None removes it.
    ``conditions``: further conditions that hold now; those the kind owns and that are not named here are removed.
    ``again``: when there is something to do although nothing will change until then; what is further off than an hour and than
    the next resync is left to that.
    """

    status: Mapping[str, Any] = field(default_factory=dict[str, Any])
    conditions: tuple[Condition, ...] = ()
    message: str = ""
    again: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """Nothing of ours is left to clean up: the finalizer may leave."""


Outcome = Ready | Released
