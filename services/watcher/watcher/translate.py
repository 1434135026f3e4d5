"""PURE: from a change of one object to the objects that have to be reconciled because of it.

Every function reads a ``Cluster`` in its state *after* the change. Whether anybody reconciles a kind, and whether the cluster is
engaged, is for the caller to see to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from codecommon.api.kinds import CONNECTIONS, REPOSITORIES
from codecommon.messaging.events import EventReason
from watcher.index import Binding, Cluster, Entry, SecretKey


@dataclass(frozen=True, slots=True)
class Requeue:
    """An object to reconcile, and why. ``cause``: as of ``ObjectEvent``."""

    entry: Entry
    reason: EventReason
    cause: str = ""


class Reach(Enum):
    """Which dependants a change of their dependency concerns."""

    NONE = auto()
    UNREADY = auto()
    ALL = auto()


def object_changed(cluster: Cluster, before: Entry | None, after: Entry) -> list[Requeue]:
    """An object was added or changed."""
    if before is not None and before.uid != after.uid:
        # Deleted and created again under the same name.
        return _first_of_each([*object_deleted(cluster, before, after.version), *object_changed(cluster, None, after)])
    requeues: list[Requeue] = []
    if concerns_itself(before, after):
        requeues.append(Requeue(after, "changed"))
    requeues += _dependants(cluster, after, reach(before, after))
    if before is not None and _stopped_blocking(before, after):
        requeues += _blocked_dependencies(cluster, before, after.version)
    if before is not None and before.rivalries != after.rivalries:
        requeues += _next_rivals(cluster, before, after.version)
    return _first_of_each(requeues)


def object_deleted(cluster: Cluster, before: Entry, version: str) -> list[Requeue]:
    """An object was removed from the cluster. ``version``: the resourceVersion of its deletion."""
    return _first_of_each(
        [
            *_dependants(cluster, before, Reach.ALL),
            *_blocked_dependencies(cluster, before, version),
            *_next_rivals(cluster, before, version),
        ]
    )


def secret_changed(cluster: Cluster, key: SecretKey) -> list[Requeue]:
    """A Secret was added, changed or deleted.

    The users of the Secret get an event. A user that is ready or being deleted will not become ready again, so its unready
    dependants get an event now.
    """
    requeues: list[Requeue] = []
    for user in cluster.users(key):
        requeues.append(Requeue(user, "dependency"))
        if user.ready or user.deleting:
            requeues += _dependants(cluster, user, Reach.UNREADY)
    return _first_of_each(requeues)


def binding_changed(
    cluster: Cluster, before: Binding | None, after: Binding | None, *, was_leaving: bool, version: str
) -> list[Requeue]:
    """A binding was added, changed or removed. Once one starts terminating, objects that are being deleted may be released."""
    starts = after is not None and after.terminating and not (before is not None and before.terminating)
    if not starts and not (cluster.leaving and not was_leaving):
        return []
    return [Requeue(entry, "dependency", version) for entry in cluster.objects.values() if entry.deleting]


def crawled(cluster: Cluster, before: Entry | None, after: Entry) -> list[Requeue]:
    """The Connection whose packages are to be looked at now: it or its credential works again, or it has another Repository.

    An object that is seen for the first time counts if it is ready already, as after a workspace was restored.
    """
    if after.deleting:
        return []
    became_ready = after.ready and (before is None or not before.ready)
    if after.key.resource == CONNECTIONS.resource:
        moved = before is not None and after.ready and after.observed_secret != before.observed_secret
        return [Requeue(after, "crawl")] if became_ready or moved else []
    if after.key.resource == REPOSITORIES.resource:
        moved = before is not None and (after.identity_hash != before.identity_hash or after.parent != before.parent)
        connection = next(cluster.dependencies(after), None)
        if (became_ready or moved) and connection is not None:
            return [Requeue(connection, "crawl")]
    return []


def unsettled(cluster: Cluster, entry: Entry) -> bool:
    """Whether the object may differ from what is wanted. A start publishes such objects; the others wait for their resync."""
    return (
        not entry.ready
        or not entry.has_finalizer
        or entry.deleting
        or entry.reconcile_requested
        or entry.left_by_go_provider
        or (entry.secret is not None and entry.observed_secret != cluster.secret_version(entry))
    )


def concerns_itself(before: Entry | None, after: Entry) -> bool:
    """Whether the change is a reason to reconcile the object itself.

    A change of status, and our finalizer appearing, are echoes of what a reconciler wrote.
    """
    return (
        before is None
        or before.generation != after.generation
        or before.deleting != after.deleting
        or before.metadata_hash != after.metadata_hash
        or (before.has_finalizer and not after.has_finalizer and not after.deleting)
    )


def reach(before: Entry | None, after: Entry) -> Reach:
    """Which dependants the change concerns."""
    if before is None:
        return Reach.ALL if after.ready else Reach.NONE
    if (
        (after.ready and not before.ready)
        or after.identity_hash != before.identity_hash
        or (after.deleting and not before.deleting)
    ):
        return Reach.ALL
    if after.ready and after.observed_secret != before.observed_secret:
        return Reach.UNREADY
    return Reach.NONE


def _dependants(cluster: Cluster, entry: Entry, which: Reach) -> Iterator[Requeue]:
    if which is Reach.NONE:
        return
    for dependant in cluster.dependants(entry.key):
        # The Ready condition of an object that is being deleted may be left over from before.
        if which is Reach.ALL or not dependant.ready or dependant.deleting:
            yield Requeue(dependant, "dependency")


def _stopped_blocking(before: Entry, after: Entry) -> bool:
    """Whether the object no longer blocks the deletion of its dependencies. It does while it has our finalizer."""
    return before.has_finalizer and (not after.has_finalizer or before.parent != after.parent)


def _blocked_dependencies(cluster: Cluster, entry: Entry, version: str) -> Iterator[Requeue]:
    """The dependencies of ``entry`` that are being deleted."""
    for dependency in cluster.dependencies(entry):
        if dependency.deleting:
            yield Requeue(dependency, "dependency", version)


def _next_rivals(cluster: Cluster, before: Entry, version: str) -> Iterator[Requeue]:
    """The objects that may now stand for what ``before`` stood for on the host: the next eldest, and nobody else.

    All others wait for that one from now on. An older object waited for ``before`` only if that had what both stand for.
    """
    for rival in cluster.eldest_waiting(before):
        if before.ready_condition or before.age < rival.age:
            yield Requeue(rival, "dependency", version)


def _first_of_each(requeues: Iterable[Requeue]) -> list[Requeue]:
    """One requeue per object: the first reason wins."""
    first: dict[tuple[str, str], Requeue] = {}
    for requeue in requeues:
        first.setdefault(requeue.entry.key, requeue)
    return list(first.values())
