"""The write in the workspace that goes before a write on the host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from access_svc.target import AccessT
from codecommon.api.kinds import CREATE_CLAIM
from codecommon.claims import claim_for
from codecommon.errors import Interruption
from codecommon.githost.backend import GitBackend
from codecommon.passes import Pass


@asynccontextmanager
async def claiming(
    run: Pass[AccessT], host: GitBackend, absent_at: datetime, *, bound: bool, timeless: bool = False
) -> AsyncIterator[None]:
    """Around a create: the claim is stored before, and withdrawn after a clear no.

    After a clear no, what somebody makes by hand in the next two minutes must not count as ours. ``timeless``: nor ever later,
    since the host does not tell when it was made; then a no to a second attempt withdraws the claim of the first one too.
    Other arguments as of ``claim_for``.
    """
    await host.await_turn()
    await run.confirm_staying(datetime.now(UTC))
    claim = claim_for(run.object, absent_at, bound=bound)
    claimed_before = run.object.metadata.annotations.get(CREATE_CLAIM) == claim
    if claimed_before:
        # Then no write guards what follows, and a live read must.
        await run.confirm_wanted()
    await run.hold({CREATE_CLAIM: claim})
    try:
        yield
    except Interruption as refused:
        if (timeless or not claimed_before) and refused.reason != "HostUnavailable":
            await run.hold({CREATE_CLAIM: None})
        raise
