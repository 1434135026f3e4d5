"""PURE: what a change of one object means for it and for those that depend on it.

Every function reads a ``Cluster`` that holds the state *after* the change and returns whom to wake. Nothing here knows
whether the cluster is engaged or who reconciles a kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from codecommon.api.kinds import COLLABORATORS, CONNECTIONS
from codecommon.messaging.events import EventReason
from watcher.index import Binding, Cluster, Entry, SecretKey


@dataclass(frozen=True, slots=True)
class Requeue:
    """An object that is worth a look. ``cause``: resourceVersion of the change, where the event's ``versions`` do not name it."""

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
        return _first_of_each([*object_gone(cluster, before, after.version), *object_changed(cluster, None, after)])
    requeues: list[Requeue] = []
    if concerns_itself(before, after):
        requeues.append(Requeue(after, "changed"))
    requeues += _dependants(cluster, after, reach(before, after))
    if before is not None and _let_go(before, after):
        requeues += _deleting_dependencies(cluster, before, after.version)
    if before is not None and before.twin != after.twin:
        requeues += _stand_ins(cluster, before, after.version)
    return _first_of_each(requeues)


def object_gone(cluster: Cluster, before: Entry, version: str) -> list[Requeue]:
    """An object is no more. ``version``: resourceVersion of its deletion."""
    return _first_of_each(
        [
            *_dependants(cluster, before, Reach.ALL),
            *_deleting_dependencies(cluster, before, version),
            *_stand_ins(cluster, before, version),
        ]
    )


def secret_changed(cluster: Cluster, key: SecretKey) -> list[Requeue]:
    """A Secret was added, changed or deleted.

    A Connection that is not Ready wakes its dependants when it becomes so; one that is being deleted never will.
    """
    requeues: list[Requeue] = []
    for connection in cluster.users(key):
        requeues.append(Requeue(connection, "dependency"))
        if connection.ready or connection.deleting:
            requeues += _dependants(cluster, connection, Reach.UNREADY)
    return _first_of_each(requeues)


def binding_changed(
    cluster: Cluster, before: Binding | None, after: Binding | None, *, was_leaving: bool, version: str
) -> list[Requeue]:
    """A binding was added, changed or removed: one that starts terminating lets deleting objects be released."""
    starts = after is not None and after.terminating and not (before is not None and before.terminating)
    if not starts and not (cluster.leaving and not was_leaving):
        return []
    return [Requeue(entry, "dependency", version) for entry in cluster.objects.values() if entry.deleting]


def unsettled(cluster: Cluster, entry: Entry) -> bool:
    """Whether the object is not known to be as wanted: such ones are told at once after a start, settled ones wait."""
    return (
        not entry.ready
        or not entry.has_finalizer
        or entry.deleting
        or entry.requested
        or entry.unrecorded
        or (entry.key.resource == CONNECTIONS.resource and entry.observed_secret != cluster.secret_version(entry))
    )


def concerns_itself(before: Entry | None, after: Entry) -> bool:
    """Whether the object's own reconciler must look. Status, and our finalizer appearing, are echoes of what it wrote."""
    return (
        before is None
        or before.generation != after.generation
        or before.deleting != after.deleting
        or before.marks != after.marks
        or (before.has_finalizer and not after.has_finalizer and not after.deleting)
    )


def reach(before: Entry | None, after: Entry) -> Reach:
    """Which dependants a change from ``before`` to ``after`` concerns."""
    if before is None:
        return Reach.ALL if after.ready else Reach.NONE
    if (
        (after.ready and not before.ready)
        or after.identity != before.identity
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
        # Ready may be left over from before the deletion began.
        if which is Reach.ALL or not dependant.ready or dependant.deleting:
            yield Requeue(dependant, "dependency")


def _let_go(before: Entry, after: Entry) -> bool:
    """Whether the object no longer keeps the objects it referred to: they stay while one with our finalizer refers to them."""
    return before.has_finalizer and (not after.has_finalizer or before.parent != after.parent)


def _deleting_dependencies(cluster: Cluster, entry: Entry, version: str) -> Iterator[Requeue]:
    for dependency in cluster.dependencies(entry):
        if dependency.deleting:
            yield Requeue(dependency, "dependency", version)


def _stand_ins(cluster: Cluster, before: Entry, version: str) -> Iterator[Requeue]:
    """Those that may now stand for what ``before`` stood for on the host.

    Collaborators with another login are among them: only the host knows whether it is the same user's.
    """
    others = cluster.possible_duplicates(before)
    if before.key.resource == COLLABORATORS.resource:
        others += (sibling for sibling in cluster.siblings(before) if not sibling.deleting)
    return (Requeue(other, "dependency", version) for other in others if not other.ready)


def _first_of_each(requeues: Iterable[Requeue]) -> list[Requeue]:
    seen: dict[tuple[str, str], Requeue] = {}
    for requeue in requeues:
        seen.setdefault(requeue.entry.key, requeue)
    return list(seen.values())
