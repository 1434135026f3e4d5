"""The handling of a deleted Collaborator: the access that it gave is taken away."""

from __future__ import annotations

from typing import Final

from access_svc.collaborator.access import observe, withdraw
from access_svc.collaborator.decide import is_about, origin_of
from access_svc.duplicates import find_staying
from access_svc.finalize import clean_up, may_remove, require_deleted_too
from codecommon.api.access import Collaborator
from codecommon.api.results import Released
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.controller.owner_record import Thing, access
from codecommon.controller.target import Target

_ACCESS: Final = "the access"


async def finalize(ctx: ReconcileContext[Collaborator], connections: Connections) -> Released:
    """Clean up on the host as the policies say. Raises while the object must stay, with what a person can do about it."""

    async def remove(target: Target) -> None:
        await _remove_access(ctx, target)

    await clean_up(ctx, connections, remove, _ACCESS, _made)
    return Released()


def _made(obj: Collaborator, host: str, repo_id: str) -> list[Thing]:
    return [access(host, repo_id, obj.status.user_id, obj.spec.username)]


async def _remove_access(ctx: ReconcileContext[Collaborator], target: Target) -> None:
    obj = ctx.object
    seen = await observe(target, obj)
    if seen is None:
        require_deleted_too(target.repository)
        return
    if origin_of(obj, seen.invitation) != "Created" and obj.spec.deletion_policy != "Delete":
        return
    user_id, login = obj.status.user_id or seen.user_id, seen.login(obj)
    if await find_staying(ctx, lambda other: is_about(other, user_id, login) or None):
        return
    made = access(target.host.host, target.repo_id, user_id, obj.spec.username)
    if await may_remove(ctx, made, _ACCESS, whoever_made_it=obj.spec.deletion_policy == "Delete"):
        await withdraw(target, obj, seen)
        await ctx.ownership.forget(made, obj)
