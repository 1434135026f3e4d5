"""What must hold before a pass touches the user's access: no other object is for that user, and the host could give it."""

from __future__ import annotations

from access_svc.collaborator import decide
from access_svc.collaborator.access import Seen
from access_svc.duplicates import find_elder
from access_svc.target import Target, repository_missing, require_writable
from codecommon.api.access import Collaborator
from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.controller.context import ReconcileContext
from codecommon.githost.github.names import is_login


def require_login(obj: Collaborator) -> None:
    """Raises ``Terminal`` (``InvalidName``) for a username that nobody can have."""
    if not is_login(obj.spec.username):
        raise Terminal(
            Reason.INVALID_NAME,
            f"spec.username {obj.spec.username!r} is not a GitHub login; usernames cannot be changed, make a new object",
        )


async def require_eldest(ctx: ReconcileContext[Collaborator]) -> None:
    """Raises ``Terminal`` (``DuplicateCollaborator``) when an older object has the same login."""
    user = ctx.object.spec.username.lower()
    _require_none(await find_elder(ctx, lambda other: other.spec.username.lower() == user))


async def require_eldest_for(ctx: ReconcileContext[Collaborator], seen: Seen) -> None:
    """The same by the user's id, once that is first seen: the watcher tells of twins by login alone."""
    if ctx.object.status.user_id is None and seen.user_id is not None:
        _require_none(await find_elder(ctx, lambda other: other.status.user_id == seen.user_id, hinted=False))


async def require_permitted(ctx: ReconcileContext[Collaborator], target: Target, login: str) -> None:
    """Raises ``Terminal`` (``RepositoryArchived``, ``PermissionUnsupported``) for what the host would refuse."""
    require_writable(target.repository)
    try:
        await _require_possible(ctx, target, login, target.owner)
    except Terminal:
        # Status pins the owner that the repository was made for; a transfer since then changes what the host takes.
        shown = await target.host.get_repository(target.repo_id)
        if shown is None:
            raise repository_missing(target.repository) from None
        await _require_possible(ctx, target, login, shown.owner)


async def _require_possible(ctx: ReconcileContext[Collaborator], target: Target, login: str, owner: str) -> None:
    decide.require_possible(ctx.object, login, owner, await target.host.get_owner_kind(owner))


def _require_none(elder: str | None) -> None:
    if elder is not None:
        raise Terminal(Reason.DUPLICATE_COLLABORATOR, f"Collaborator {elder!r} is for this user; delete one of the two")
