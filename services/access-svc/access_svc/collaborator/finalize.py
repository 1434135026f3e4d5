"""The handling of a deleted Collaborator: the access that it gave is taken away."""

from __future__ import annotations

from access_svc.collaborator.access import observe, withdraw
from access_svc.collaborator.decide import is_about, origin_of
from access_svc.duplicates import find_staying
from access_svc.finalize import clean_up, require_deleted_too
from access_svc.target import Target
from codecommon.api.access import Collaborator
from codecommon.api.results import Released
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext


async def finalize(ctx: ReconcileContext[Collaborator], connections: Connections) -> Released:
    """Clean up on the host as the policies say. Raises while the object must stay, with what a person can do about it."""

    async def remove(target: Target) -> None:
        await _remove_access(ctx, target)

    await clean_up(ctx, connections, remove, "the access")
    return Released()


async def _remove_access(ctx: ReconcileContext[Collaborator], target: Target) -> None:
    obj = ctx.object
    seen = await observe(target, obj)
    if seen is None:
        require_deleted_too(target.repository)
        return
    ours = origin_of(obj, seen.invitation) == "Created" or obj.spec.deletion_policy == "Delete"
    user_id, login = obj.status.user_id or seen.user_id, seen.login(obj)
    if ours and not await find_staying(ctx, lambda other: is_about(other, user_id, login) or None, most=1):
        await withdraw(target, obj, seen)
