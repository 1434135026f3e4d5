"""From an object to the Repository that it refers to, and on to the repository on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codecommon.api.kinds import REPOSITORIES
from codecommon.api.reasons import Reason
from codecommon.api.repository import Repository
from codecommon.api.results import NotReady, Terminal
from codecommon.controller.connections import Connections, OpenConnection, require_validated
from codecommon.controller.context import ReconcileContext
from codecommon.githost.protocol import GitBackend
from codecommon.kcp.client import NotFound
from codecommon.messaging.events import Versions


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


async def find_repository(ctx: ReconcileContext[Any], *, live: bool = False) -> Repository | None:
    """The Repository object that the object refers to. None: there is none. ``live``: read from kcp and from no cache."""
    not_older = "" if live else ctx.versions.repository or ""
    try:
        raw = await ctx.objects.get(REPOSITORIES.resource, ctx.object.spec.repository_ref, not_older=not_older)
    except NotFound:
        return None
    return Repository.parse(raw, ctx.objects.workspace)


async def require_repository(ctx: ReconcileContext[Any]) -> Repository:
    """The Repository object that the object refers to. Raises ``NotReady`` (``RepositoryNotFound``) when it is missing."""
    repository = await find_repository(ctx)
    if repository is None:
        raise NotReady(
            Reason.REPOSITORY_NOT_FOUND,
            f"Repository {ctx.object.spec.repository_ref!r} does not exist; create it, or delete this object and make another",
        )
    return repository


def require_staying(repository: Repository) -> None:
    """Raises ``NotReady`` (``RepositoryNotReady``) when the Repository is being deleted."""
    if repository.deleting:
        raise NotReady(Reason.REPOSITORY_NOT_READY, f"Repository {repository.name!r} is being deleted")


async def open_target(
    ctx: ReconcileContext[Any],
    connections: Connections,
    repository: Repository,
    *,
    pinned: str | None = None,
    live: bool = False,
) -> Target:
    """Open the host of ``repository``. ``live`` as in ``Connections.for_object``.

    ``pinned``: the host on the object's own record, besides that on the Repository's.
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
    for recorded in (repository.status.host, pinned):
        if recorded and recorded.lower() != opened.backend.host.lower():
            raise Terminal(
                Reason.IDENTITY_CONFLICT,
                f"this object is about a repository on {recorded}, the Connection of Repository {repository.name!r} points to "
                f"{opened.backend.host}; point it back, or make new objects for the other host",
            )
    return Target(repository, repo_id, opened)
