"""From a DeployKey or Collaborator to the repository on the host that it is about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.kinds import REPOSITORIES
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.repository import Repository
from codecommon.api.results import NotReady, Terminal
from codecommon.controller.connections import Connections, OpenConnection, require_validated
from codecommon.controller.context import ReconcileContext
from codecommon.controller.owner_record import repository as repository_thing
from codecommon.githost.protocol import GitBackend
from codecommon.kcp.client import NotFound
from codecommon.messaging.events import Versions

_LOOK_AGAIN: Final = timedelta(minutes=1)

AccessT = TypeVar("AccessT", DeployKey, Collaborator)


@dataclass(frozen=True, slots=True)
class Target:
    """A repository on a host, and the opened Connection that may change it. ``repo_id``: the host's id of the repository."""

    repository: Repository
    repo_id: str
    opened: OpenConnection

    @property
    def host(self) -> GitBackend:
        return self.opened.backend

    @property
    def owner(self) -> str:
        """The owner of the repository, as recorded when it was created or adopted."""
        return self.repository.status.owner or self.repository.spec.owner or self.opened.connection.spec.owner


async def find_repository(ctx: ReconcileContext[AccessT], *, live: bool = False) -> Repository | None:
    """The Repository object that the object refers to. None: there is none. ``live``: read from kcp and from no cache."""
    not_older = "" if live else ctx.versions.repository or ""
    try:
        raw = await ctx.objects.get(REPOSITORIES.resource, ctx.object.spec.repository_ref, not_older=not_older)
    except NotFound:
        return None
    return Repository.parse(raw, ctx.objects.workspace)


async def open_target(
    ctx: ReconcileContext[AccessT], connections: Connections, repository: Repository, *, live: bool = False
) -> Target:
    """Open the host of ``repository``. ``live`` as in ``Connections.for_object``.

    Raises ``NotReady`` (``RepositoryNotReady``) while the repository is not on the host, and as ``Connections.for_object``.
    Raises ``Terminal`` (``IdentityConflict``) when the Connection leads to another host than the one on record.
    """
    repo_id = repository.status.repo_id
    if repo_id is None:
        raise NotReady(Reason.REPOSITORY_NOT_READY, f"Repository {repository.name!r} is not on the host yet")
    versions = Versions() if live else ctx.versions
    spec = repository.spec
    opened = await connections.for_object(ctx.objects, spec.connection_ref, versions, owner=spec.owner or "", live=live)
    if not live:
        require_validated(opened.connection)
    for pinned in (repository.status.host, ctx.object.status.host):
        if pinned and pinned.lower() != opened.backend.host.lower():
            raise Terminal(
                Reason.IDENTITY_CONFLICT,
                f"this object is about a repository on {pinned}, the Connection of Repository {repository.name!r} points to "
                f"{opened.backend.host}; point it back, or make new objects for the other host",
            )
    return Target(repository, repo_id, opened)


async def repository_made_at(ctx: ReconcileContext[AccessT], target: Target) -> datetime | None:
    """When the Repository made the target, if it did. What is older was in another one that is gone."""
    return await ctx.ownership.made_at(repository_thing(target.host.host, target.repo_id), target.repository)


async def require_repository(ctx: ReconcileContext[AccessT]) -> Repository:
    """The Repository object that the object refers to.

    Raises ``NotReady``: ``RepositoryNotFound`` when it is missing, ``RepositoryNotReady`` when it is being deleted.
    """
    name, repository = ctx.object.spec.repository_ref, await find_repository(ctx)
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
    """The result where the host does not know the id in the Repository's status. repository-svc finds that out and reports it.

    The Repository's recovery wakes the object. As long as the Repository is ready it cannot recover, so time does.
    """
    return NotReady(
        Reason.REPOSITORY_NOT_READY,
        f"the host does not show the repository of {repository.name!r}",
        requeue_after=_LOOK_AGAIN if repository.ready else None,
    )
