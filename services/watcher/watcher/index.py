"""The watcher's memory of every object: names, versions, readiness and hashes. It holds no value of a Secret.

References never leave a logical cluster, so each cluster has an index of its own. An object takes about 0.8 KB, and
one that may wait for a rival 0.5 KB more.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from codecommon.api.kinds import KINDS
from codecommon.kcp.client import JsonObject
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
    """What is known of one object. Hashes are comparable within this process only.

    Attributes:
        version: The resourceVersion.
        has_finalizer: The object carries our finalizer.
        ready_condition: Its Ready condition is True, for whichever generation.
        metadata_hash: Of the labels, and of the annotations that are a reason to reconcile.
        identity_hash: Of who the object is on the host (``KindSpec.identity``), on which its dependants rely.
        duplicate_hash: Of what the object stands for on the host (``DuplicateRule.key``). None: there can be no duplicate.
        rival_hash: Of what the object competes for besides (``DuplicateRule.rivals``).
        created: The creationTimestamp. The older of two rivals has what both stand for.
        reconcile_requested: An annotation requests a reconcile that status does not report as handled.
        finished: It was a request (``KindSpec.request``), and has been answered.
        left_by_go_provider: The Go provider bound the object to something on the host. No service of ours has recorded more.
        parent: The name of the object that ``KindSpec.reference`` points to.
        secret: The Secret that ``KindSpec.secret_reference`` points to.
        observed_secret: The resourceVersion of that Secret at the last reconcile.
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
    metadata_hash: int
    identity_hash: int
    duplicate_hash: int | None
    rival_hash: int | None
    created: str
    reconcile_requested: bool
    finished: bool
    left_by_go_provider: bool
    parent: str | None
    secret: SecretKey | None
    observed_secret: str | None

    @property
    def ready(self) -> bool:
        """Ready=True for the current generation."""
        return self.ready_condition and self.observed_generation == self.generation

    @property
    def waits(self) -> bool:
        """Whether the object may wait for a rival to go."""
        return not self.ready and not self.deleting

    @property
    def rivalries(self) -> tuple[int, ...]:
        """The groups of objects that may wait for each other; see ``DuplicateRule``."""
        return tuple(hash_ for hash_ in (self.duplicate_hash, self.rival_hash) if hash_ is not None)

    @property
    def age(self) -> tuple[str, str]:
        """Smaller is older. The services compare the same, in ``ReconcileContext.find_elder``."""
        return self.created, self.uid

    @property
    def parent_key(self) -> ObjectKey | None:
        parent_resource = KINDS[self.key.resource].parent
        if parent_resource is None or self.parent is None:
            return None
        return ObjectKey(parent_resource, self.parent)


class SeenObject(NamedTuple):
    """An object at the moment when a stream brings it. ``raw``: as kcp sent it, which the index does not keep."""

    entry: Entry
    raw: JsonObject


class SecretEntry(NamedTuple):
    """A Secret's name and resourceVersion. Nothing of its content, labels or annotations comes this far."""

    cluster: str
    key: SecretKey
    version: str


class Binding(NamedTuple):
    """An APIBinding of our export. ``schemas``: a hash of those that it serves, comparable within this process only."""

    cluster: str
    name: str
    version: str
    bound: bool
    terminating: bool
    schemas: int = 0


class Cluster:
    """The objects of one logical cluster and how they refer to each other.

    ``secrets``: the resourceVersion of every Secret. ``deferred``: objects that changed while the cluster was not engaged.
    """

    __slots__ = (
        "_by_duplicate_hash",
        "_children",
        "_users",
        "_waiting",
        "bindings",
        "deferred",
        "id",
        "objects",
        "secrets",
    )

    def __init__(self, cluster_id: str) -> None:
        self.id: Final = cluster_id
        self.objects: Final[dict[ObjectKey, Entry]] = {}
        self.secrets: Final[dict[SecretKey, str]] = {}
        self.bindings: Final[dict[str, Binding]] = {}
        self.deferred: Final[set[ObjectKey]] = set()
        self._children: Final[dict[ObjectKey, set[ObjectKey]]] = {}
        self._users: Final[dict[SecretKey, set[ObjectKey]]] = {}
        self._by_duplicate_hash: Final[dict[tuple[str, int], set[ObjectKey]]] = {}
        # Sorted by age, so that the eldest is found without a look at the others.
        self._waiting: Final[dict[tuple[str, int], list[tuple[tuple[str, str], ObjectKey]]]] = {}

    @property
    def engaged(self) -> bool:
        """Whether we serve the cluster: a binding is Bound, or terminating, which waits for us to release the objects."""
        return any(binding.bound or binding.terminating for binding in self.bindings.values())

    @property
    def leaving(self) -> bool:
        """Whether the workspace gives up the API: every binding is being deleted."""
        return bool(self.bindings) and all(binding.terminating for binding in self.bindings.values())

    @property
    def empty(self) -> bool:
        return not (self.objects or self.secrets or self.bindings)

    def put(self, entry: Entry) -> Entry | None:
        """Store an object; returns what was known of it before."""
        before = self.objects.get(entry.key)
        self.objects[entry.key] = entry
        if before is None or _links(before) != _links(entry):
            if before is not None:
                self._unlink(before)
            self._link(entry)
        return before

    def remove(self, key: ObjectKey) -> Entry | None:
        """Forget an object; returns what was known of it."""
        before = self.objects.pop(key, None)
        if before is not None:
            self._unlink(before)
            self.deferred.discard(key)
        return before

    def dependants(self, key: ObjectKey) -> Iterator[Entry]:
        """The objects that refer to ``key``, each followed by those that refer to it."""
        for child in self._children.get(key, ()):
            yield self.objects[child]
            yield from self.dependants(child)

    def dependencies(self, entry: Entry) -> Iterator[Entry]:
        """The chain of parents, nearest first. It ends where one does not exist."""
        key = entry.parent_key
        while key is not None and (found := self.objects.get(key)) is not None:
            yield found
            key = found.parent_key

    def users(self, secret: SecretKey) -> list[Entry]:
        """The objects that refer to ``secret``."""
        return [self.objects[key] for key in self._users.get(secret, ())]

    def has_possible_duplicate(self, entry: Entry) -> bool:
        """Whether another object of the kind may stand for the same thing on the host."""
        if entry.duplicate_hash is None:
            return False
        keys = self._by_duplicate_hash.get((entry.key.resource, entry.duplicate_hash), ())
        return len(keys) > (entry.key in keys)

    def eldest_waiting(self, entry: Entry) -> Iterator[Entry]:
        """Of each of the object's rivalries the eldest other object that waits."""
        for rivalry in entry.rivalries:
            eldest_two = self._waiting.get((entry.key.resource, rivalry), [])[:2]
            yield from [self.objects[key] for _, key in eldest_two if key != entry.key][:1]

    def secret_version(self, entry: Entry) -> str | None:
        """The resourceVersion of the Secret that ``entry`` refers to; None: it refers to none, or there is no such Secret."""
        return self.secrets.get(entry.secret) if entry.secret is not None else None

    def versions(self, entry: Entry) -> Versions:
        """The resourceVersions of the object's dependencies, and of the Secret at the end of the chain."""
        dependencies = list(self.dependencies(entry))
        seen = {KINDS[found.key.resource].singular: found.version for found in dependencies}
        secrets = [self.secret_version(found) for found in (entry, *dependencies) if found.secret is not None]
        return Versions(**seen, secret=secrets[-1] if secrets else None)

    def _link(self, entry: Entry) -> None:
        if (parent := entry.parent_key) is not None:
            self._children.setdefault(parent, set()).add(entry.key)
        if entry.secret is not None:
            self._users.setdefault(entry.secret, set()).add(entry.key)
        if entry.duplicate_hash is not None:
            self._by_duplicate_hash.setdefault((entry.key.resource, entry.duplicate_hash), set()).add(entry.key)
        if entry.waits:
            for rivalry in entry.rivalries:
                insort(self._waiting.setdefault((entry.key.resource, rivalry), []), (entry.age, entry.key))

    def _unlink(self, entry: Entry) -> None:
        if (parent := entry.parent_key) is not None:
            _discard(self._children, parent, entry.key)
        if entry.secret is not None:
            _discard(self._users, entry.secret, entry.key)
        if entry.duplicate_hash is not None:
            _discard(self._by_duplicate_hash, (entry.key.resource, entry.duplicate_hash), entry.key)
        if entry.waits:
            for rivalry in entry.rivalries:
                waiting = self._waiting[entry.key.resource, rivalry]
                del waiting[bisect_left(waiting, (entry.age, entry.key))]
                if not waiting:
                    del self._waiting[entry.key.resource, rivalry]


class Index:
    """All clusters at one endpoint."""

    def __init__(self) -> None:
        self._clusters: dict[str, Cluster] = {}

    def cluster(self, cluster_id: str) -> Cluster:
        """The cluster; a new one on the first call. ``prune`` removes it when it is empty."""
        found = self._clusters.get(cluster_id)
        if found is None:
            found = self._clusters[cluster_id] = Cluster(cluster_id)
        return found

    def is_bound(self, cluster_id: str) -> bool:
        """Whether the cluster has a binding, whatever its phase."""
        found = self._clusters.get(cluster_id)
        return found is not None and bool(found.bindings)

    @property
    def size(self) -> int:
        """The number of objects of our kinds. Secrets and bindings do not count."""
        return sum(len(cluster.objects) for cluster in self._clusters.values())

    def clusters(self) -> list[Cluster]:
        return list(self._clusters.values())

    def prune(self, cluster: Cluster) -> None:
        if cluster.empty:
            self._clusters.pop(cluster.id, None)


def _links(entry: Entry) -> tuple[object, ...]:
    """What the cluster finds the entry by, besides its key."""
    return entry.parent, entry.secret, entry.duplicate_hash, entry.rival_hash, entry.waits, entry.age


def _discard(sets: dict[K, set[V]], key: K, member: V) -> None:
    members = sets[key]
    members.discard(member)
    if not members:
        del sets[key]
