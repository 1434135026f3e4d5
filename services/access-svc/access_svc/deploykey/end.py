"""The end of a DeployKey: its keys leave the host, its Secret the workspace."""

from __future__ import annotations

from functools import partial

from access_svc.cleanup import clean_up, require_given_up
from access_svc.deploykey import material
from access_svc.deploykey.decide import origin_of
from access_svc.deploykey.pair import Pairs
from access_svc.target import Target
from access_svc.twins import find_staying
from codecommon.api.access import DeployKey
from codecommon.errors import Terminal
from codecommon.githost.backend import HostKey
from codecommon.outcome import Released
from codecommon.passes import Pass
from codecommon.sessions import Sessions


async def release(run: Pass[DeployKey], sessions: Sessions, pairs: Pairs) -> Released:
    """Clean up as the policies say. Raises while the object must stay, with what a person can do about it."""
    stays = await clean_up(run, sessions, partial(_remove, run, pairs), "the deploy key")
    if stays:
        await pairs.let_go(run.objects, run.object)
    else:
        await pairs.delete(run.objects, run.object)
    return Released()


async def _remove(run: Pass[DeployKey], pairs: Pairs, target: Target) -> None:
    listed = await target.host.list_deploy_keys(target.repo_id)
    if listed is None:
        require_given_up(target.repository)
        return
    public = await pairs.public(run.objects, run.object)
    staying = {_given(other) for other in await find_staying(run)}
    for seen in listed.items:
        if seen.key not in staying and _goes(run.object, seen, public):
            await target.host.delete_deploy_key(target.repo_id, seen.id)


def _goes(key: DeployKey, seen: HostKey, public: str | None) -> bool:
    """Whether a key on the host goes with the object: one that status names, or one that a crash kept out of it.

    ``public``: the public half of the stored pair.
    """
    if seen.id == key.status.previous_key_id:
        return True
    recorded, generated = seen.id == key.status.key_id, seen.key == public
    if not (recorded or generated or seen.key == _given(key)):
        return False
    return origin_of(key, seen, generated=generated) == "Created" or (recorded and key.spec.deletion_policy == "Delete")


def _given(key: DeployKey) -> str | None:
    try:
        return material.normalised(key.spec.public_key) if key.spec.public_key else None
    except Terminal:
        return None
