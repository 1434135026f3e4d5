"""Conditions: how a result becomes the list in status. Pure.

``Ready`` is the summary (kstatus): True only for what is true on the host at this generation. ``Reconciling`` and
``Stalled`` are abnormal-true: present only while they hold. docs/conditions.md lists every type and reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from codecommon.api.meta import BaseStatus, Condition, ConditionStatus
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.results import Interruption, NotReady, Ready, Retryable, Terminal
from codecommon.process.redact import cut, redact

READY: Final = ConditionType.READY
RECONCILING: Final = ConditionType.RECONCILING
STALLED: Final = ConditionType.STALLED

_MESSAGE_LIMIT: Final = 2048
"""Characters; the schema allows 32,768, but a status is read by people and copied by every watch."""

# Redaction can shorten a message, so more is read than is kept.
_LONGEST_READ: Final = 4 * _MESSAGE_LIMIT


def condition(type_: str, status: ConditionStatus, reason: str, message: str = "") -> Condition:
    """A condition as a reconciler states it; times and generation are filled in by ``merge``."""
    return Condition(type=type_, status=status, reason=reason, message=message)


def from_result(status: BaseStatus, result: Ready | Interruption, generation: int) -> list[Condition]:
    """The conditions that hold after ``result``, the summary ones first, then those the reconciler named."""
    if isinstance(result, Ready):
        return [condition(READY, "True", Reason.RECONCILED, result.message), *result.conditions]
    reason, message = result.reason, result.message
    stated = list(result.conditions)
    match result:
        case Terminal():
            return [condition(READY, "False", reason, message), condition(STALLED, "True", reason, message), *stated]
        case NotReady():
            return [
                condition(READY, "False", reason, message),
                condition(RECONCILING, "True", reason, message),
                *stated,
            ]
        case _:
            assert isinstance(result, Retryable)
            return [
                _while_retrying(status, result, generation),
                condition(RECONCILING, "True", reason, message),
                *stated,
            ]


def merge(
    current: tuple[Condition, ...],
    wanted: Iterable[Condition],
    *,
    owned: frozenset[str],
    generation: int,
    now: str,
) -> tuple[Condition, ...]:
    """The new list: ``wanted`` replaces its types, ``owned`` types that are not wanted leave, others stay.

    ``now`` (RFC 3339) becomes the transition time of a condition whose status changed, and of no other.
    """
    before = {c.type: c for c in current}
    merged = {c.type: c for c in current if c.type not in owned}
    for wish in wanted:
        old = before.get(wish.type)
        merged[wish.type] = wish.model_copy(
            update={
                "message": _fit(redact(cut(wish.message, _LONGEST_READ))),
                "observed_generation": wish.observed_generation or generation,
                "last_transition_time": old.last_transition_time
                if old is not None and old.status == wish.status and old.last_transition_time
                else now,
            }
        )
    return tuple(sorted(merged.values(), key=lambda c: (c.type != READY.value, c.type)))


def _while_retrying(status: BaseStatus, result: Retryable, generation: int) -> Condition:
    """Ready stays what it was, unless it speaks of an older spec: then nothing is known."""
    ready = status.condition(READY)
    if ready is not None and (ready.observed_generation or status.observed_generation) == generation:
        return ready.model_copy(update={"observed_generation": generation})
    return condition(READY, "Unknown", result.reason, result.message)


def _fit(message: str) -> str:
    return message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 1] + "…"
