"""The end of a Collaborator: the access that it gave is taken away."""

from __future__ import annotations

from functools import partial

from access_svc.cleanup import clean_up, require_given_up
from access_svc.collaborator.access import observe, withdraw
from access_svc.collaborator.identity import is_for
from access_svc.collaborator.origin import origin_of
from access_svc.target import Target
from access_svc.twins import find_staying
from codecommon.api.access import Collaborator
from codecommon.outcome import Released
from codecommon.passes import Pass
from codecommon.sessions import Sessions


async def release(run: Pass[Collaborator], sessions: Sessions) -> Released:
    """Clean up as the policies say. Raises while the object must stay, with what a person can do about it."""
    await clean_up(run, sessions, partial(_remove, run), "the access")
    return Released()


async def _remove(run: Pass[Collaborator], target: Target) -> None:
    obj = run.object
    seen = await observe(target, obj)
    if seen is None:
        require_given_up(target.repository)
        return
    ours = origin_of(obj, seen.invitation) == "Created" or obj.spec.deletion_policy == "Delete"
    user_id, login = obj.status.user_id or seen.user_id, seen.login(obj)
    if ours and not any(is_for(other, user_id, login) for other in await find_staying(run)):
        await withdraw(target, obj, seen)
