"""From a DeployKey or Collaborator to the repository on the host that it is about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.kinds import REPOSITORIES
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.repository import Repository
from codecommon.api.results import NotReady, Outcome, Terminal
from codecommon.controller.connections import Connections, OpenConnection, require_validated
from codecommon.controller.context import ReconcileContext
from codecommon.githost.protocol import GitBackend
from codecommon.kcp.client import NotFound
from codecommon.messaging.events import Versions

AccessT = TypeVar("AccessT", DeployKey, Collaborator)


@dataclass(frozen=True, slots=True)
class Target:
    """A repository on a host, and the session that may change it."""

    repository: Repository
    repo_id: str
    opened: OpenConnection

    @property
    def host(self) -> GitBackend:
        return self.opened.host

    @property
    def owner(self) -> str:
        """Of the repository, as it was recorded when it was made or found."""
        return self.repository.status.owner or self.repository.spec.owner or self.opened.connection.spec.owner


async def find_repository(ctx: ReconcileContext[AccessT], *, live: bool = False) -> Repository | None:
    """The Repository object that the object refers to; None: there is none."""
    not_older = "" if live else ctx.versions.repository or ""
    try:
        raw = await ctx.objects.get(REPOSITORIES.resource, ctx.object.spec.repository_ref, not_older=not_older)
    except NotFound:
        return None
    return Repository.parse(raw, ctx.objects.workspace)


async def open_target(
    ctx: ReconcileContext[AccessT], connections: Connections, repository: Repository, *, live: bool = False
) -> Target:
    """Open the host of ``repository``; ``live`` as in ``Sessions.for_object``.

    Raises ``NotReady`` (``RepositoryNotReady``) while the repository has not been made, ``Terminal`` (``IdentityConflict``).
    """
    repo_id = repository.status.repo_id
    if repo_id is None:
        raise NotReady(Reason.REPOSITORY_NOT_READY, f"Repository {repository.name!r} is not on the host yet")
    versions = Versions() if live else ctx.versions
    spec = repository.spec
    opened = await connections.for_object(ctx.objects, spec.connection_ref, versions, owner=spec.owner or "", live=live)
    if not live:
        require_validated(opened.connection)
    for pinned in (repository.pinned_host, ctx.object.status.host):
        if pinned is not None and pinned.lower() != opened.host.host.lower():
            raise Terminal(
                Reason.IDENTITY_CONFLICT,
                f"this object is about a repository on {pinned}, the Connection of Repository {repository.name!r} points to "
                f"{opened.host.host}; point it back, or make new objects for the other host",
            )
    return Target(repository, repo_id, opened)


async def with_repository(
    ctx: ReconcileContext[AccessT],
    connections: Connections,
    work: Callable[[ReconcileContext[AccessT], Repository], Awaitable[Outcome]],
) -> Outcome:
    """Do ``work`` on the Repository object that the object refers to; see ``Sessions.with_fresh_credential``."""
    repository = require_repository(await find_repository(ctx), ctx.object.spec.repository_ref)
    return await connections.with_fresh_credential(
        ctx.objects, repository.spec.connection_ref, partial(work, ctx, repository)
    )


def require_repository(repository: Repository | None, name: str) -> Repository:
    """Raises ``NotReady`` for a Repository object that is missing or on its way out."""
    if repository is None:
        raise NotReady(
            Reason.REPOSITORY_NOT_FOUND,
            f"Repository {name!r} does not exist; create it, or delete this object and make another",
        )
    if repository.deleting:
        raise NotReady(Reason.REPOSITORY_NOT_READY, f"Repository {name!r} is being deleted")
    return repository


def require_writable(repository: Repository) -> None:
    """Raises ``Terminal`` (``RepositoryArchived``) before a write that the host would refuse."""
    archived = repository.status.condition(ConditionType.ARCHIVED)
    if archived is not None and archived.status == "True":
        raise Terminal(
            Reason.REPOSITORY_ARCHIVED, f"Repository {repository.name!r} is archived on the host and read-only"
        )


def repository_missing(repository: Repository) -> NotReady:
    """The Repository object has an id that the host does not know, which its own service finds out and repairs."""
    return NotReady(Reason.REPOSITORY_NOT_READY, f"the host does not show the repository of {repository.name!r}")
