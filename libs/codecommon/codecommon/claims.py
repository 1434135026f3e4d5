"""The create claim: how what was made on the host in a pass nobody finished is recognised. Pure.

Before a create, the Date of the answer that showed nothing there is stored on the object. What the host made within
``CLAIM_WINDOW`` after it is ours.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from codecommon.api.kinds import CREATE_CLAIM
from codecommon.api.meta import Resource
from codecommon.times import rfc3339

CLAIM_WINDOW: Final = timedelta(minutes=2)
"""A create that the host takes longer than this to carry out has failed."""


def claim_for(obj: Resource[Any, Any], absent_at: datetime, *, bound: bool) -> str:
    """The claim for a create now. One that an earlier pass stored stays while what it made may still be invisible.

    ``absent_at``: the host's Date of the answer that showed nothing. ``bound``: status has the id of what was made before.
    """
    stored = stored_claim(obj)
    if stored is not None and not bound and absent_at - stored < CLAIM_WINDOW:
        return obj.metadata.annotations[CREATE_CLAIM]
    return rfc3339(absent_at)


def stored_claim(obj: Resource[Any, Any]) -> datetime | None:
    text = obj.metadata.annotations.get(CREATE_CLAIM)
    if not text:
        return None
    try:
        claim = datetime.fromisoformat(text)
    except ValueError:
        return None
    return claim if claim.tzinfo else claim.replace(tzinfo=UTC)


def claimed(obj: Resource[Any, Any], created_at: datetime) -> bool:
    """Whether something made at ``created_at`` is what this object's claim announced."""
    claim = stored_claim(obj)
    return claim is not None and claim <= created_at <= claim + CLAIM_WINDOW
