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


async def find_staying(
    ctx: ReconcileContext[AccessT], keep: Callable[[AccessT], R | None], *, most: int | None = None
) -> list[R]:
    """What ``keep`` returns for the other objects of the same Repository that reached the host and are not being deleted.

    What one of them stands for stays on the host when its duplicate is deleted. Read live. ``most`` as of ``Objects.list``.
    """

    def keep_staying(other: AccessT) -> R | None:
        return None if other.deleting or never_reached_host(other) else keep(other)

    return await ctx.others(keep_staying, fields=_same_repository(ctx), most=most)


def _same_repository(ctx: ReconcileContext[AccessT]) -> dict[str, str]:
    return {"spec.repositoryRef": ctx.object.spec.repository_ref}
