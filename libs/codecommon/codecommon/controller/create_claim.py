"""The create claim: how we recognise what we made when the process died before it could say so.

Before a create, the object gets an annotation with the Date of the host's answer that showed nothing there. What the
host made within ``CLAIM_WINDOW`` after that time is ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from codecommon.api.annotations import CREATE_CLAIM
from codecommon.api.meta import Resource
from codecommon.api.results import Interruption
from codecommon.api.times import rfc3339
from codecommon.controller.context import ReconcileContext
from codecommon.githost.protocol import AlreadyExists, GitBackend, HostUnavailable

T = TypeVar("T", bound=Resource[Any, Any])

CLAIM_WINDOW: Final = timedelta(minutes=2)
"""A create that the host takes longer than this to carry out has failed."""


def claim_for(obj: Resource[Any, Any], absent_at: datetime, *, bound: bool) -> str:
    """The claim for a create now. An earlier claim stays as long as the host may not show yet what was made under it.

    ``absent_at``: the Date of the host's answer that showed nothing. ``bound``: status has the id of what was made
    before.
    """
    stored = stored_claim(obj)
    if stored is not None and not bound and absent_at - stored < CLAIM_WINDOW:
        return obj.metadata.annotations[CREATE_CLAIM]
    return rfc3339(absent_at)


def stored_claim(obj: Resource[Any, Any]) -> datetime | None:
    """The time in the object's claim; None: it has none, or somebody wrote something else there."""
    text = obj.metadata.annotations.get(CREATE_CLAIM)
    if not text:
        return None
    try:
        claim = datetime.fromisoformat(text)
    except ValueError:
        return None
    return claim if claim.tzinfo else claim.replace(tzinfo=UTC)


def is_under_claim(obj: Resource[Any, Any], created_at: datetime) -> bool:
    """Whether what was made at ``created_at`` was made under this object's claim."""
    claim = stored_claim(obj)
    return claim is not None and claim <= created_at <= claim + CLAIM_WINDOW


@asynccontextmanager
async def under_create_claim(
    ctx: ReconcileContext[T],
    host: GitBackend,
    claim: str,
    *,
    timeless: bool = False,
    noted: Mapping[str, str] | None = None,
) -> AsyncIterator[None]:
    """Around a create on the host: store the claim before, and withdraw it after a clear refusal.

    After a refusal, what somebody makes by hand in the next two minutes must not count as ours.

    ``timeless``: the host does not tell when the thing was made. A claim would then count for ever, so any clear
    refusal withdraws it, also one that an earlier attempt stored. ``noted``: annotations that are stored with the
    claim. Raises ``Retryable`` (``RateLimited``) when it is not our turn.
    """
    await host.await_turn()
    await ctx.confirm_not_leaving()
    claimed_before = ctx.object.metadata.annotations.get(CREATE_CLAIM) == claim
    if claimed_before:
        # No write guards what follows, so a live read does.
        await ctx.confirm_not_deleting()
    await ctx.ensure_finalizer({CREATE_CLAIM: claim, **(noted or {})})
    try:
        yield
    except (Interruption, AlreadyExists) as refused:
        if (timeless or not claimed_before) and _is_clear(refused):
            await ctx.ensure_finalizer({CREATE_CLAIM: None})
        raise


def _is_clear(refused: Interruption | AlreadyExists) -> bool:
    """Whether it is certain that nothing was made: the host answered, and named no id."""
    if isinstance(refused, AlreadyExists):
        return True
    return not isinstance(refused, HostUnavailable) and "repoID" not in refused.status
