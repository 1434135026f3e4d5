"""The create claim: how we recognise what we made when the process died before it could say so.

Before a create, the Date of the host's answer that showed nothing there is stored in NATS for the object, where no tenant
writes. What the host made within ``CLAIM_WINDOW`` after that time is ours, unless a record says that another object made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from codecommon.api.claim import Claim
from codecommon.api.meta import Resource
from codecommon.api.results import Interruption
from codecommon.controller.context import ReconcileContext
from codecommon.githost.protocol import AlreadyExists, GitBackend, HostUnavailable

T = TypeVar("T", bound=Resource[Any, Any])

CLAIM_WINDOW: Final = timedelta(minutes=2)
"""A create that the host takes longer than this to carry out has failed."""


def claim_for(obj: Resource[Any, Any], absent_at: datetime, *, bound: bool, key: str | None = None) -> Claim:
    """The claim for a create now. An earlier time stays as long as the host may not show yet what was made then.

    ``absent_at``: the Date of the host's answer that showed nothing. ``bound``: status has the id of what was made
    before. ``key``: as of ``Claim``.
    """
    stored = obj.claim
    if stored is not None and not bound and absent_at - stored.at < CLAIM_WINDOW:
        return Claim(stored.at, key)
    # Hosts tell times in whole seconds.
    return Claim(absent_at.replace(microsecond=0), key)


def stored_claim(obj: Resource[Any, Any]) -> datetime | None:
    """The time in the object's claim; None: it has none."""
    return obj.claim.at if obj.claim is not None else None


def is_under_claim(obj: Resource[Any, Any], created_at: datetime) -> bool:
    """Whether what was made at ``created_at`` was made under this object's claim."""
    return obj.claim is not None and is_within(obj.claim, created_at)


def is_within(claim: Claim, created_at: datetime) -> bool:
    """Whether what was made at ``created_at`` may have been made under the claim, by its time alone."""
    return claim.at <= created_at <= claim.at + CLAIM_WINDOW


@asynccontextmanager
async def under_create_claim(
    ctx: ReconcileContext[T],
    host: GitBackend,
    claim: Claim,
    *,
    timeless: bool = False,
) -> AsyncIterator[None]:
    """Around a create on the host: store the claim before, and withdraw it after a clear refusal.

    After a refusal, what somebody makes by hand in the next two minutes must not count as ours.

    ``timeless``: the host does not tell when the thing was made. A claim would then count for ever, so any clear
    refusal withdraws it, also one that an earlier attempt stored. Raises ``Retryable`` (``RateLimited``) when it is not our
    turn.
    """
    await host.await_turn()
    await ctx.confirm_not_leaving()
    claimed_before = ctx.object.claim is not None and ctx.object.claim.at == claim.at
    sent = False
    try:
        await _store_guarded(ctx, claim)
        sent = True
        yield
    except BaseException as error:
        # Also when the handler is cancelled: a claim for what was never sent would make something of somebody else's ours.
        refused = isinstance(error, Interruption | AlreadyExists) and _is_clear(error)
        if not claimed_before and not sent:
            with suppress(Interruption):
                await ctx.store_claim(None)
        elif refused and (timeless or not claimed_before):
            await ctx.store_claim(None)
        raise


async def _store_guarded(ctx: ReconcileContext[T], claim: Claim) -> None:
    """Store the claim and have kcp confirm that the object is still to be made, at the same time."""
    storing = asyncio.ensure_future(_store(ctx, claim))
    try:
        if ctx.has_finalizer:
            # No write guards what follows, so a live read does.
            await ctx.confirm_not_deleting()
        else:
            await ctx.ensure_finalizer()
    finally:
        # kcp takes longer than NATS, so the claim costs no time. Nothing is sent before it is stored.
        await storing


async def _store(ctx: ReconcileContext[T], claim: Claim) -> None:
    if ctx.object.claim != claim:
        await ctx.store_claim(claim)


def _is_clear(refused: Interruption | AlreadyExists) -> bool:
    """Whether it is certain that nothing was made: the host answered, and named no id."""
    if isinstance(refused, AlreadyExists):
        return True
    return not isinstance(refused, HostUnavailable) and "repoID" not in refused.status
