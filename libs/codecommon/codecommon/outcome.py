"""What a reconciler may return; what it may raise is in ``codecommon.errors``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from codecommon.api.meta import Condition


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
