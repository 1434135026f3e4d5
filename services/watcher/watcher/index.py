"""What the watcher keeps of the objects it has seen: identity, versions, readiness and references; no spec, no status.

References never leave a logical cluster, so each one is a unit of its own. About 0.7 KB per object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from codecommon.api.kinds import CONNECTIONS, KINDS
from codecommon.messaging.events import Versions

K = TypeVar("K")
V = TypeVar("V")


class ObjectKey(NamedTuple):
    """An object within its cluster; ``resource`` is the plural."""

    resource: str
    name: str


class SecretKey(NamedTuple):
    """A Secret within its cluster."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one object.

    ``has_finalizer``: it carries our finalizer. ``ready_condition``: its Ready condition is True, for whatever generation.
    ``marks`` and ``identity`` are hashes that are only compared with others of this process: of the labels and annotations that
    we act on, and of what dependants rely on (who the object is on the host).
    ``unrecorded``: today's provider bound it to something on the host and left no record of who made that.
    ``requested``: a reconcile was requested by annotation that status does not report as handled.
    ``twin``: hash of what only one object of the kind in a workspace may stand for (a repository's name); None: no such thing.
    ``parent``: name of the object that the kind's reference field points to.
    """

    cluster: str
    key: ObjectKey
    uid: str
    version: str
    generation: int
    observed_generation: int | None
    deleting: bool
    has_finalizer: bool
    ready_condition: bool
    marks: int
    identity: int
    requested: bool
    unrecorded: bool
    twin: int | None
    parent: str | None
    secret: SecretKey | None
    observed_secret: str | None

    @property
    def ready(self) -> bool:
        """Ready=True for the current generation."""
        return self.ready_condition and self.observed_generation == self.generation

    @property
    def parent_key(self) -> ObjectKey | None:
        parent_resource = KINDS[self.key.resource].parent
        if parent_resource is None or self.parent is None:
            return None
        return ObjectKey(parent_resource, self.parent)


class SecretEntry(NamedTuple):
    """A Secret's name and version. Nothing of its content, labels or annotations comes this far."""

    cluster: str
    key: SecretKey
    version: str


class Binding(NamedTuple):
    """An APIBinding of our export."""

    cluster: str
    name: str
    version: str
    bound: bool
    terminating: bool


class Cluster:
    """The objects of one logical cluster and how they refer to each other.

    ``kept``: objects that there was news of while the cluster was not engaged; told once it is.
    """

    __slots__ = ("_children", "_twins", "_users", "bindings", "id", "kept", "objects", "secrets")

    def __init__(self, cluster_id: str) -> None:
        self.id: Final = cluster_id
        self.objects: Final[dict[ObjectKey, Entry]] = {}
        self.secrets: Final[dict[SecretKey, str]] = {}
        self.bindings: Final[dict[str, Binding]] = {}
        self.kept: Final[set[ObjectKey]] = set()
        self._children: Final[dict[ObjectKey, set[ObjectKey]]] = {}
        self._users: Final[dict[SecretKey, set[ObjectKey]]] = {}
        self._twins: Final[dict[tuple[str, int], set[ObjectKey]]] = {}

    @property
    def engaged(self) -> bool:
        """Whether the cluster is ours to serve: a binding is Bound, or on its way out (its objects must be released)."""
        return any(binding.bound or binding.terminating for binding in self.bindings.values())

    @property
    def leaving(self) -> bool:
        """Whether every binding is being deleted."""
        return bool(self.bindings) and all(binding.terminating for binding in self.bindings.values())

    @property
    def empty(self) -> bool:
        return not (self.objects or self.secrets or self.bindings)

    def put(self, entry: Entry) -> Entry | None:
        """Store an object; returns what was known of it before."""
        before = self.objects.get(entry.key)
        self.objects[entry.key] = entry
        if before is None or (before.parent, before.secret, before.twin) != (entry.parent, entry.secret, entry.twin):
            if before is not None:
                self._unlink(before)
            self._link(entry)
        return before

    def remove(self, key: ObjectKey) -> Entry | None:
        """Forget an object; returns what was known of it."""
        before = self.objects.pop(key, None)
        if before is not None:
            self._unlink(before)
            self.kept.discard(key)
        return before

    def dependants(self, key: ObjectKey) -> Iterator[Entry]:
        """Objects that refer to ``key``, each followed by those that refer to it."""
        for child in self._children.get(key, ()):
            yield self.objects[child]
            yield from self.dependants(child)

    def dependencies(self, entry: Entry) -> Iterator[Entry]:
        """The objects that ``entry`` refers to, directly first; ends where one does not exist."""
        key = entry.parent_key
        while key is not None and (found := self.objects.get(key)) is not None:
            yield found
            key = found.parent_key

    def users(self, secret: SecretKey) -> list[Entry]:
        """The Connections whose credential is in ``secret``."""
        return [self.objects[key] for key in self._users.get(secret, ())]

    def possible_duplicates(self, entry: Entry) -> list[Entry]:
        """Other objects of the kind that may stand for the same thing on the host."""
        if entry.twin is None:
            return []
        keys = self._twins.get((entry.key.resource, entry.twin), set())
        return [self.objects[key] for key in keys if key != entry.key]

    def siblings(self, entry: Entry) -> list[Entry]:
        """Other objects of the kind that refer to the same one."""
        keys = self._children.get(entry.parent_key, ()) if entry.parent_key is not None else ()
        return [self.objects[key] for key in keys if key.resource == entry.key.resource and key != entry.key]

    def secret_version(self, connection: Entry) -> str | None:
        """resourceVersion of the Connection's Secret; None while there is none."""
        return self.secrets.get(connection.secret) if connection.secret is not None else None

    def versions(self, entry: Entry) -> Versions:
        """resourceVersions of the object's Repository, Connection and Secret."""
        repository = connection = secret = None
        for found in self.dependencies(entry):
            if found.key.resource == CONNECTIONS.resource:
                connection, secret = found.version, self.secret_version(found)
            else:
                repository = found.version
        if entry.key.resource == CONNECTIONS.resource:
            secret = self.secret_version(entry)
        return Versions(repository=repository, connection=connection, secret=secret)

    def _link(self, entry: Entry) -> None:
        if (parent := entry.parent_key) is not None:
            self._children.setdefault(parent, set()).add(entry.key)
        if entry.secret is not None:
            self._users.setdefault(entry.secret, set()).add(entry.key)
        if entry.twin is not None:
            self._twins.setdefault((entry.key.resource, entry.twin), set()).add(entry.key)

    def _unlink(self, entry: Entry) -> None:
        if (parent := entry.parent_key) is not None:
            _discard(self._children, parent, entry.key)
        if entry.secret is not None:
            _discard(self._users, entry.secret, entry.key)
        if entry.twin is not None:
            _discard(self._twins, (entry.key.resource, entry.twin), entry.key)


class Index:
    """All clusters seen at one endpoint."""

    def __init__(self) -> None:
        self._clusters: dict[str, Cluster] = {}

    def cluster(self, cluster_id: str) -> Cluster:
        """The cluster, made on first sight; ``prune`` forgets it when nothing is left in it."""
        found = self._clusters.get(cluster_id)
        if found is None:
            found = self._clusters[cluster_id] = Cluster(cluster_id)
        return found

    @property
    def size(self) -> int:
        """Objects of our kinds; Secrets and bindings not counted."""
        return sum(len(cluster.objects) for cluster in self._clusters.values())

    def clusters(self) -> list[Cluster]:
        return list(self._clusters.values())

    def prune(self, cluster: Cluster) -> None:
        if cluster.empty:
            self._clusters.pop(cluster.id, None)


def _discard(sets: dict[K, set[V]], key: K, member: V) -> None:
    members = sets[key]
    members.discard(member)
    if not members:
        del sets[key]
