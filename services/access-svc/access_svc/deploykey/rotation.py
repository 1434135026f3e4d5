"""When a generated pair is replaced, and how long the one before it still works. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from codecommon.api import durations
from codecommon.api.access import DeployKey
from codecommon.api.origin import is_recorded
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.results import Terminal

_SHORTEST: Final = timedelta(minutes=1)
_OVERLAP: Final = timedelta(minutes=10)


def rotation(key: DeployKey) -> timedelta | None:
    """``spec.rotateEvery``. None: the key is not rotated; a key that spec gives never is.

    Raises ``Terminal`` (``ValidationFailed``).
    """
    if key.spec.public_key or not key.spec.rotate_every:
        return None
    try:
        every = durations.parse_duration(key.spec.rotate_every)
    except ValueError:
        raise Terminal(Reason.VALIDATION_FAILED, "spec.rotateEvery is not a duration such as 2160h") from None
    if every < _SHORTEST:
        raise Terminal(Reason.VALIDATION_FAILED, f"spec.rotateEvery is shorter than {_SHORTEST.seconds} seconds")
    return every


def due(key: DeployKey, every: timedelta | None, now: datetime) -> bool:
    """Whether the pair has reached the age at which it is replaced, and the key before it is gone."""
    if every is None or not is_recorded(key.status.origin) or key.status.previous_key_id is not None:
        return False
    return now - (key.status.rotated_at or key.metadata.creation_timestamp) >= every


def step_due(key: DeployKey, now: datetime) -> bool:
    """Whether a step of a rotation is due: the pair is old enough, or the key before it has worked for long enough.

    A key that was removed to be registered again is due in any case, since nothing is in its place.
    """
    if key.status.condition(ConditionType.KEY_REPLACING) is not None:
        return True
    try:
        every = rotation(key)
    except Terminal:
        return False
    if every is None or key.status.rotated_at is None:
        return False
    if key.status.previous_key_id is not None:
        return now - key.status.rotated_at >= overlap(every)
    return due(key, every, now)


def overlap(every: timedelta) -> timedelta:
    """How long the key that a rotation replaced still works. A changed Secret reaches its consumers within two minutes."""
    return min(_OVERLAP, every / 4)


def overlapping(status: Mapping[str, Any], every: timedelta | None, now: datetime) -> bool:
    """Whether the key that the last rotation replaced is still to work. ``status``: as this pass leaves it, by wire name."""
    return every is not None and now - _rotated_at(status) < overlap(every)


def requeue_after(status: Mapping[str, Any], every: timedelta | None, now: datetime) -> timedelta | None:
    """The time until the next step of a rotation, a second at least. ``status``: as in ``overlapping``."""
    if every is None:
        return None
    wait = overlap(every) if status.get("previousKeyID") else every
    return max(_rotated_at(status) + wait - now, timedelta(seconds=1))


def _rotated_at(status: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(status["rotatedAt"])
