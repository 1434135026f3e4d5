"""The records of who made what, rebuilt from status after NATS lost its data, or after a version that kept none.

A tenant can write status. So a record that is there already stands, and where two statuses claim one thing, the record
names both and neither object deletes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final

from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.annotations import CLUSTER_ANNOTATION
from codecommon.api.kinds import COLLABORATORS, DEPLOY_KEYS, REPOSITORIES, KindSpec
from codecommon.api.meta import Resource, Workspace
from codecommon.api.repository import Repository
from codecommon.controller.owner_record import Holder, OwnerRecord, Thing, access, deploy_key, repository
from codecommon.kcp.client import JsonObject, ProviderKcp
from codecommon.kcp.endpoints import list_everywhere
from codecommon.messaging.records import Records

_log = logging.getLogger(__name__)

REBUILT: Final = "rebuilt"
"""The key whose record says that every status was asked since the bucket was empty. It is lost with the records."""

_CLAIMANTS: Final = ("Created", "Unrecorded")
"""What the Go provider left counts too. Whether it made a thing is worked out from times, which may fit two objects."""

_AT_ONCE: Final = 50

_RepositoryIds = dict[tuple[str, str], tuple[str, str]]
"""Cluster and name of a Repository → host and id."""


async def is_rebuilt(owners: Records) -> bool:
    return await owners.get(REBUILT) is not None


async def rebuild(kcp: ProviderKcp, owners: Records, now: Callable[[], datetime]) -> None:
    """Ask the status of all objects in all workspaces who made what. Safe to run twice, and in several processes at once.

    Raises as ``list_everywhere``; what was written by then stays, and counts once a rebuild was completed.
    """
    _log.warning("the records of who made what are missing; rebuilding them from status")
    repositories: _RepositoryIds = {}
    total = 0
    for kind in (REPOSITORIES, DEPLOY_KEYS, COLLABORATORS):

        def keep(endpoint: str, raw: JsonObject, kind: KindSpec[Any] = kind) -> list[tuple[Thing, Holder]] | None:
            obj = _parsed(kind, raw, endpoint)
            if obj is None:
                return None
            if isinstance(obj, Repository) and obj.status.repo_id and obj.status.host:
                repositories[obj.workspace.cluster, obj.name] = (obj.status.host, obj.status.repo_id)
            return [(thing, Holder.of(obj)) for thing in _claimed_things(obj, repositories)] or None

        claims = [claim for of_one in await list_everywhere(kcp, kind.resource, keep) for claim in of_one]
        total += len(claims)
        for begin in range(0, len(claims), _AT_ONCE):
            if await is_rebuilt(owners):
                return
            some = claims[begin : begin + _AT_ONCE]
            await asyncio.gather(*(_add(owners, thing, holder, now()) for thing, holder in some))
    await owners.create(REBUILT, now().isoformat().encode())
    _log.warning("the records of who made what are rebuilt: %d claims", total)


def _parsed(kind: KindSpec[Any], raw: JsonObject, endpoint: str) -> Resource[Any, Any] | None:
    """None for an object that no model fits. It must not hold up what all others wait for."""
    try:
        cluster = str(raw["metadata"]["annotations"][CLUSTER_ANNOTATION])
        return kind.model.parse(raw, Workspace(endpoint, cluster))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("an object of kind %s cannot be read and claims nothing: %s", kind.kind, type(error).__name__)
        return None


def _claimed_things(obj: Resource[Any, Any], repositories: _RepositoryIds) -> Iterator[Thing]:
    """What the object's status says that it made."""
    if obj.status.origin not in _CLAIMANTS:
        return
    match obj:
        case Repository(status=status):
            if status.host and status.repo_id:
                yield repository(status.host, status.repo_id)
        case DeployKey(status=status, spec=spec):
            where = repositories.get((obj.workspace.cluster, spec.repository_ref))
            if where is not None:
                for key_id in (status.key_id, status.previous_key_id):
                    if key_id:
                        yield deploy_key(where[0], where[1], key_id)
        case Collaborator(status=status, spec=spec):
            where = repositories.get((obj.workspace.cluster, spec.repository_ref))
            # Without the id it is not known whose access it was. The object is recorded when it is next looked at.
            if where is not None and status.user_id:
                yield access(where[0], where[1], status.user_id, spec.username)
        case _:
            return


async def _add(owners: Records, thing: Thing, holder: Holder, now: datetime) -> None:
    record = OwnerRecord((holder,), now, from_status=True)
    while not await owners.create(thing.key, record.encode()):
        stored = await owners.get(thing.key)
        if stored is None:
            continue
        found = OwnerRecord.decode(stored.value)
        joined = found.joined_by(holder) if found.from_status else found
        if joined == found or await owners.update(thing.key, joined.encode(), stored.revision):
            return
