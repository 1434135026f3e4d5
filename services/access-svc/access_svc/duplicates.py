"""Two objects of a workspace for the same thing on the host: the older one has it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from access_svc.deletion_policy import never_reached_host
from access_svc.target import AccessT
from codecommon.api.access import Collaborator, DeployKey
from codecommon.controller.context import ReconcileContext


async def find_elder(
    ctx: ReconcileContext[AccessT], same: Callable[[AccessT], bool], *, hinted: bool = True
) -> str | None:
    """The name of the oldest object of the same Repository that stands for the ``same`` thing. None: it is this one.

    ``hinted``: the event says whether there may be such objects, and where it says no, nothing is read.
    """
    if hinted and not ctx.possible_duplicates:
        return None
    rivals = [o for o in await _others(ctx, not_older=ctx.object.metadata.resource_version) if same(o)]
    elder = min(rivals, key=_age, default=None)
    return elder.name if elder is not None and _age(elder) < _age(ctx.object) else None


async def find_staying(ctx: ReconcileContext[AccessT]) -> list[AccessT]:
    """The other objects of the same Repository that reached the host and are not being deleted. Read live.

    What one of them stands for stays on the host when its duplicate is deleted.
    """
    others = [o for o in await _others(ctx) if not o.deleting]
    # Only a claim tells of what an unfinished pass made.
    known = [await ctx.with_claim(o) if never_reached_host(o) else o for o in others]
    return [o for o in known if not never_reached_host(o)]


async def _others(ctx: ReconcileContext[AccessT], *, not_older: str = "") -> list[AccessT]:
    selector = f"spec.repositoryRef={ctx.object.spec.repository_ref}"
    found = await ctx.objects.list(ctx.kind.resource, field_selector=selector, not_older=not_older)
    others = (type(ctx.object).parse(raw, ctx.objects.workspace) for raw in found)
    return [other for other in others if other.metadata.uid != ctx.object.metadata.uid]


def _age(obj: DeployKey | Collaborator) -> tuple[datetime, str]:
    return obj.metadata.creation_timestamp, obj.metadata.uid
