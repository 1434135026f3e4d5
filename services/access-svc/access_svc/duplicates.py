"""Two objects of a workspace for the same thing on the host: the older one has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from access_svc.deletion_policy import never_reached_host
from access_svc.target import AccessT
from codecommon.controller.context import ReconcileContext

R = TypeVar("R")


async def find_elder(
    ctx: ReconcileContext[AccessT], same: Callable[[AccessT], bool], *, hinted: bool = True
) -> str | None:
    """The name of the oldest object of the same Repository that stands for the ``same`` thing. None: it is this one.

    ``hinted``: the event says whether there may be such objects, and where it says no, nothing is read.
    """
    if hinted and not ctx.possible_duplicates:
        return None
    return await ctx.find_elder(same, fields=_same_repository(ctx))


async def find_staying(ctx: ReconcileContext[AccessT], keep: Callable[[AccessT], R | None]) -> list[R]:
    """What ``keep`` returns for the other objects of the same Repository that reached the host and are not being deleted.

    What one of them stands for stays on the host when its duplicate is deleted. Read live.
    """

    def keep_staying(other: AccessT) -> tuple[R, str | None] | None:
        kept = None if other.deleting else keep(other)
        if kept is None or not never_reached_host(other):
            return None if kept is None else (kept, None)
        # Only a claim tells of what an unfinished pass made.
        return (kept, other.metadata.uid) if ctx.kind.finalizer in other.metadata.finalizers else None

    found = await ctx.others(keep_staying, fields=_same_repository(ctx))
    return [kept for kept, uid in found if uid is None or await ctx.ownership.claim_of(uid) is not None]


def _same_repository(ctx: ReconcileContext[AccessT]) -> dict[str, str]:
    return {"spec.repositoryRef": ctx.object.spec.repository_ref}
