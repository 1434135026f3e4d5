"""The write in the workspace that goes before a create on the host. What is in it: ``codecommon.claims``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from codecommon.api.kinds import CREATE_CLAIM
from codecommon.api.meta import Resource
from codecommon.errors import Interruption
from codecommon.githost.backend import AlreadyExists, GitBackend
from codecommon.passes import Pass

T = TypeVar("T", bound=Resource[Any, Any])


@asynccontextmanager
async def claiming(
    run: Pass[T], host: GitBackend, claim: str, *, timeless: bool = False, noted: Mapping[str, str] | None = None
) -> AsyncIterator[None]:
    """Around a create: the claim is stored before, and withdrawn after a clear no. ``noted``: annotations stored with it.

    After a clear no, what somebody makes by hand in the next two minutes must not count as ours. ``timeless``: nor ever later,
    since the host does not tell when it was made; then a no to a second attempt withdraws the claim of the first one too.
    """
    await host.await_turn()
    await run.confirm_staying(datetime.now(UTC))
    claimed_before = run.object.metadata.annotations.get(CREATE_CLAIM) == claim
    if claimed_before:
        # Then no write guards what follows, and a live read must.
        await run.confirm_wanted()
    await run.hold({CREATE_CLAIM: claim, **(noted or {})})
    try:
        yield
    except (Interruption, AlreadyExists) as refused:
        if (timeless or not claimed_before) and _is_clear(refused):
            await run.hold({CREATE_CLAIM: None})
        raise


def _is_clear(refused: Interruption | AlreadyExists) -> bool:
    """Whether nothing was made: no id came back, and an answer did."""
    if isinstance(refused, AlreadyExists):
        return True
    return refused.reason != "HostUnavailable" and "repoID" not in refused.status
