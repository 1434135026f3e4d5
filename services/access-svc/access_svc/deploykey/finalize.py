"""The handling of a deleted DeployKey: its keys are removed on the host, and its Secret in the workspace."""

from __future__ import annotations

from typing import Final

from access_svc.deploykey import material
from access_svc.deploykey.decide import claimed_key, origin_of
from access_svc.deploykey.exchange import others_keys
from access_svc.deploykey.pair import Pairs
from access_svc.finalize import clean_up, may_remove, require_deleted_too
from codecommon.api.access import DeployKey
from codecommon.api.reasons import Reason
from codecommon.api.results import Released, Retryable
from codecommon.controller.connections import Connections
from codecommon.controller.context import ReconcileContext
from codecommon.controller.create_claim import CLAIM_WINDOW, stored_claim
from codecommon.controller.owner_record import Thing, deploy_key
from codecommon.controller.target import Target
from codecommon.githost.protocol import HostKey, Listed

_KEY: Final = "the deploy key"


async def finalize(ctx: ReconcileContext[DeployKey], connections: Connections, pairs: Pairs) -> Released:
    """Clean up on the host as the policies say. Raises while the object must stay, with what a person can do about it."""

    async def remove(target: Target) -> None:
        await _remove_keys(ctx, pairs, target)

    if await clean_up(ctx, connections, remove, _KEY, _made):
        await pairs.disown(ctx.objects, ctx.object)
    else:
        await pairs.delete(ctx.objects, ctx.object)
    return Released()


def _made(key: DeployKey, host: str, repo_id: str) -> list[Thing]:
    ids = (key.status.key_id, key.status.previous_key_id)
    return [deploy_key(host, repo_id, key_id) for key_id in ids if key_id is not None]


async def _remove_keys(ctx: ReconcileContext[DeployKey], pairs: Pairs, target: Target) -> None:
    listed = await target.host.list_deploy_keys(target.repo_id)
    if listed is None:
        require_deleted_too(target.repository)
        return
    key = ctx.object
    public = await pairs.public(ctx.objects, key)
    going: dict[str, HostKey | None] = {seen.id: seen for seen in listed.items if _is_removed_with(key, seen, public)}
    going |= dict.fromkeys(_unlisted(key, listed))
    others = await others_keys(ctx)
    said = (key.status.key_id, key.status.previous_key_id) if key.spec.deletion_policy == "Delete" else ()
    for key_id, seen in going.items():
        if others.have(key_id, seen):
            continue
        made = deploy_key(target.host.host, target.repo_id, key_id)
        if await may_remove(ctx, made, _KEY, whoever_made_it=key_id in said):
            await target.host.delete_deploy_key(target.repo_id, key_id)
            await ctx.ownership.forget(made, key)
    _require_seen(key, listed)


def _is_removed_with(key: DeployKey, seen: HostKey, public: str | None) -> bool:
    """Whether a key on the host is removed with the object: status names it, or would if no pass had crashed.

    ``public``: the public half of the stored pair.
    """
    if seen.id == key.status.previous_key_id:
        return True
    recorded, generated = seen.id == key.status.key_id, seen.key == public
    if not (recorded or generated or seen.key in (claimed_key(key), material.given_by(key.spec.public_key))):
        return False
    return origin_of(key, seen, generated=generated) == "Created" or (recorded and key.spec.deletion_policy == "Delete")


def _unlisted(key: DeployKey, listed: Listed[HostKey]) -> list[str]:
    """The ids of recorded keys to be removed that the host does not list: they are gone, or too new to be listed."""
    status, shown = key.status, {seen.id for seen in listed.items}
    current = status.key_id if status.origin == "Created" or key.spec.deletion_policy == "Delete" else None
    return [key_id for key_id in (status.previous_key_id, current) if key_id is not None and key_id not in shown]


def _require_seen(key: DeployKey, listed: Listed[HostKey]) -> None:
    """Raises ``Retryable`` (``HostNotYetVisible``) while a key may appear that an unfinished pass registered."""
    claim, awaited = stored_claim(key), claimed_key(key)
    if claim is None or listed.at - claim >= CLAIM_WINDOW or any(seen.key == awaited for seen in listed.items):
        return
    if key.status.key_id is None or any(seen.id == key.status.key_id for seen in listed.items):
        raise Retryable(
            Reason.HOST_NOT_YET_VISIBLE, "waiting to see whether the key was registered before the object was deleted"
        )
