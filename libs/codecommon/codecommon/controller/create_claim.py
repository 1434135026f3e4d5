"""The create claim: how what was made on the host in a pass nobody finished is recognised. Pure.

Before a create, the Date of the answer that showed nothing there is stored on the object. What the host made within
``CLAIM_WINDOW`` after it is ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from codecommon.api.annotations import CREATE_CLAIM
from codecommon.api.meta import Resource
from codecommon.api.reasons import Reason
from codecommon.api.results import Interruption
from codecommon.api.times import rfc3339
from codecommon.controller.context import ReconcileContext
from codecommon.githost.protocol import AlreadyExists, GitBackend

T = TypeVar("T", bound=Resource[Any, Any])

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


@asynccontextmanager
async def claiming(
    ctx: ReconcileContext[T],
    host: GitBackend,
    claim: str,
    *,
    timeless: bool = False,
    noted: Mapping[str, str] | None = None,
) -> AsyncIterator[None]:
    """Around a create: the claim is stored before, and withdrawn after a clear no. ``noted``: annotations stored with it.

    After a clear no, what somebody makes by hand in the next two minutes must not count as ours. ``timeless``: nor ever later,
    since the host does not tell when it was made; then a no to a second attempt withdraws the claim of the first one too.
    """
    await host.await_turn()
    await ctx.confirm_not_leaving()
    claimed_before = ctx.object.metadata.annotations.get(CREATE_CLAIM) == claim
    if claimed_before:
        # Then no write guards what follows, and a live read must.
        await ctx.confirm_not_deleting()
    await ctx.ensure_finalizer({CREATE_CLAIM: claim, **(noted or {})})
    try:
        yield
    except (Interruption, AlreadyExists) as refused:
        if (timeless or not claimed_before) and _is_clear(refused):
            await ctx.ensure_finalizer({CREATE_CLAIM: None})
        raise


def _is_clear(refused: Interruption | AlreadyExists) -> bool:
    """Whether nothing was made: no id came back, and an answer did."""
    if isinstance(refused, AlreadyExists):
        return True
    return refused.reason != Reason.HOST_UNAVAILABLE and "repoID" not in refused.status
