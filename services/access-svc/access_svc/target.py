"""What both kinds of access ask of the repository that they are about."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, TypeVar

from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.repository import Repository
from codecommon.api.results import NotReady, Terminal
from codecommon.controller.context import ReconcileContext
from codecommon.controller.owner_record import repository as repository_thing
from codecommon.controller.target import Target

_LOOK_AGAIN: Final = timedelta(minutes=1)

AccessT = TypeVar("AccessT", DeployKey, Collaborator)


async def repository_made_at(ctx: ReconcileContext[AccessT], target: Target) -> datetime | None:
    """When the Repository made the target, if it did. What is older was in another one that is gone."""
    return await ctx.ownership.made_at(repository_thing(target.host.host, target.repo_id), target.repository)


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
