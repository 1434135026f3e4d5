"""From the lists and changes of one endpoint to object events.

Each stream writes what it sees of one resource into a sink of the ``Feed``. The feed stores it in the index, asks ``translate``
which objects have to be reconciled because of it, and publishes an event for each:

1. Until every resource has been listed once, the feed only fills the index.
2. At that moment it publishes every unsettled object.
3. From then on it publishes what each change concerns. After a new list of a resource it publishes the unsettled objects again.

Of the events that one change leads to, the first are published at once and the rest in parts (``publish_rest``). An event of
the rest describes its object as it is by then. So a tenant whose Connection has thousands of dependants does not hold up others.

A Connection whose packages are to be looked at gets an event for the crawler besides.

An event of an object that has just changed carries a copy of it, because here it is at hand. No other event does.

A cluster takes part while it is engaged. Objects that change before that are deferred until then. A cluster whose last binding
is gone has departed. kcp has deleted its objects before, so they are forgotten, whether or not the other streams say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Final, NoReturn

from codecommon.api.kinds import CONNECTIONS, KINDS
from codecommon.messaging import object_copy
from codecommon.messaging.events import EventReason, ObjectEvent
from watcher import translate
from watcher.index import Binding, Cluster, Entry, Index, ObjectKey, SecretEntry, SeenObject
from watcher.resync import ResyncSchedule
from watcher.sinks import ListedSink, Sink
from watcher.translate import Requeue

SECRETS: Final = "secrets"
BINDINGS: Final = "apibindings"

AT_ONCE: Final = 200
"""The events that one change publishes at once, which takes some milliseconds. Other tasks have their turn before the rest."""

_USERS_OF_SECRETS: Final = frozenset(kind.resource for kind in KINDS.values() if kind.secret_reference is not None)


class Feed:
    """Keeps the index of one endpoint up to date, and passes events to ``publish``.

    ``departed`` is told of each cluster whose last binding is gone. No event of it follows, unless it binds again. ``now``: the
    time of day, UTC.
    """

    def __init__(
        self,
        endpoint: str,
        publish: Callable[[ObjectEvent], None],
        resync: ResyncSchedule,
        departed: Callable[[str], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.index = Index()
        self._endpoint = endpoint
        self._publish = publish
        self._resync = resync
        self._now = now
        self._departed = departed
        self._unlisted = {*KINDS, SECRETS, BINDINGS}
        self._rest: dict[tuple[str, ObjectKey], tuple[EventReason, str]] = {}
        """The events that are still to be published, in order: the object, and the reason and cause."""
        self._has_rest = asyncio.Event()
        self.bound = asyncio.Event()
        """Set once a workspace has bound the export. kcp serves the resources of the export from then on."""

    @property
    def live(self) -> bool:
        """Whether every resource has been listed, so that references resolve."""
        return not self._unlisted

    @property
    def knows_bindings(self) -> bool:
        """Whether the bindings have been listed."""
        return BINDINGS not in self._unlisted

    # ---- inputs

    def objects(self, resource: str) -> Sink[SeenObject]:
        """The sink for the objects of one kind."""
        return ListedSink(
            put=self._put_object,
            delete=lambda seen: self._delete_object(seen.entry),
            known=lambda: [
                SeenObject(entry, {})
                for cluster in self.index.clusters()
                for entry in cluster.objects.values()
                if entry.key.resource == resource
            ],
            identify=lambda seen: (seen.entry.cluster, seen.entry.key),
            ended=lambda: self._list_ended(resource, {resource}),
        )

    def secrets(self) -> Sink[SecretEntry]:
        """The sink for Secrets. A new list of them can reveal that an object has not observed its Secret."""
        return ListedSink(
            put=self._put_secret,
            delete=self._delete_secret,
            known=lambda: [SecretEntry(c.id, k, v) for c in self.index.clusters() for k, v in c.secrets.items()],
            identify=lambda secret: (secret.cluster, secret.key),
            ended=lambda: self._list_ended(SECRETS, _USERS_OF_SECRETS),
        )

    def bindings(self) -> Sink[Binding]:
        """The sink for the APIBindings of our export."""
        return ListedSink(
            put=lambda binding: self._set_binding(binding, binding),
            delete=lambda binding: self._set_binding(binding, None),
            known=lambda: [b for c in self.index.clusters() for b in c.bindings.values()],
            identify=lambda binding: (binding.cluster, binding.name),
            ended=lambda: self._list_ended(BINDINGS, ()),
        )

    def resync(self, cluster_id: str, key: ObjectKey) -> None:
        """The resync of one object is due."""
        cluster = self.index.cluster(cluster_id)
        entry = cluster.objects.get(key)
        if self.live and cluster.engaged and entry is not None and _has_turn(entry, leaving=cluster.leaving):
            self._publish(self._event(cluster, Requeue(entry, "resync")))
            if key.resource == CONNECTIONS.resource:
                self._publish_crawls(cluster, [Requeue(entry, "crawl-resync")])

    # ---- objects

    def _put_object(self, seen: SeenObject) -> None:
        entry = seen.entry
        cluster = self.index.cluster(entry.cluster)
        before = cluster.put(entry)
        if _has_service(entry) and (before is None or before.uid != entry.uid):
            if before is not None:
                self._resync.remove(entry.cluster, before.key, before.uid)
            self._resync.add(entry.cluster, entry.key, entry.uid)
        if self.live:
            self._publish_all(cluster, translate.object_changed(cluster, before, entry), seen=seen)
            self._publish_crawls(cluster, translate.crawled(cluster, before, entry))

    def _delete_object(self, entry: Entry) -> None:
        cluster = self.index.cluster(entry.cluster)
        before = cluster.remove(entry.key)
        if before is not None:
            if _has_service(before):
                self._resync.remove(cluster.id, before.key, before.uid)
            if self.live:
                self._publish_all(cluster, translate.object_deleted(cluster, before, entry.version))
        self.index.prune(cluster)

    # ---- Secrets

    def _put_secret(self, secret: SecretEntry) -> None:
        cluster = self.index.cluster(secret.cluster)
        if cluster.secrets.get(secret.key) != secret.version:
            cluster.secrets[secret.key] = secret.version
            if self.live:
                self._publish_all(cluster, translate.secret_changed(cluster, secret.key))

    def _delete_secret(self, secret: SecretEntry) -> None:
        cluster = self.index.cluster(secret.cluster)
        if cluster.secrets.pop(secret.key, None) is not None and self.live:
            self._publish_all(cluster, translate.secret_changed(cluster, secret.key))
        self.index.prune(cluster)

    # ---- bindings

    def _set_binding(self, seen: Binding, after: Binding | None) -> None:
        """``after``: what is left of the binding ``seen``; None: it was deleted."""
        cluster = self.index.cluster(seen.cluster)
        was_engaged, was_leaving = cluster.engaged, cluster.leaving
        before = cluster.bindings.pop(seen.name, None)
        if after is not None:
            cluster.bindings[after.name] = after
        if cluster.engaged:
            self.bound.set()
        if self.live:
            if cluster.engaged and not was_engaged:
                self._engage(cluster)
            self._publish_all(
                cluster,
                translate.binding_changed(cluster, before, after, was_leaving=was_leaving, version=seen.version),
            )
        if before is not None and after is not None and before.schemas != after.schemas:
            # Under schemas that are not ours kcp drops what they lack. Under ours it can be stored again, and no event tells of
            # that. kcp serves them to us a moment after the binding names them.
            for entry in cluster.objects.values():
                if entry.left_by_go_provider:
                    self._resync.soon(cluster.id, entry.key)
        if before is not None and not cluster.bindings:
            self._forget_objects(cluster, seen.version)
            self._departed(cluster.id)
        self.index.prune(cluster)

    def _forget_objects(self, cluster: Cluster, version: str) -> None:
        """Forget the objects of a cluster whose last binding was deleted at ``version``.

        An object with a later version belongs to a new binding, which is not seen yet. Secrets stay: they are the tenant's, and a
        new binding brings no news of them.
        """
        for entry in list(cluster.objects.values()):
            if int(entry.version) < int(version):
                cluster.remove(entry.key)
                self._resync.remove(cluster.id, entry.key, entry.uid)

    def _engage(self, cluster: Cluster) -> None:
        """Publish what was deferred, and what is unsettled."""
        deferred = set(cluster.deferred)
        cluster.deferred.clear()
        self._publish_all(
            cluster,
            [
                Requeue(entry, "changed" if entry.key in deferred else "unsettled")
                for entry in cluster.objects.values()
                if entry.key in deferred or translate.unsettled(cluster, entry)
            ],
        )

    # ---- ends of lists

    def _list_ended(self, resource: str, concerned: Collection[str]) -> None:
        """Publish the unsettled objects of the kinds ``concerned``, or of every kind when the last of the first lists ended."""
        if self.live:
            self._publish_unsettled(concerned)
        else:
            self._unlisted.discard(resource)
            if self.live:
                self._publish_unsettled(KINDS)

    def _publish_unsettled(self, resources: Collection[str]) -> None:
        left = AT_ONCE
        for cluster in self.index.clusters():
            if cluster.engaged:
                left -= self._publish_all(
                    cluster,
                    [
                        Requeue(entry, "unsettled")
                        for entry in cluster.objects.values()
                        if entry.key.resource in resources and translate.unsettled(cluster, entry)
                    ],
                    at_once=left,
                )

    # ---- output

    async def publish_rest(self) -> NoReturn:
        """Publish what changes have left for later, until cancelled."""
        while True:
            if not self.publish_part():
                self._has_rest.clear()
                await self._has_rest.wait()
            await asyncio.sleep(0)

    def publish_part(self) -> bool:
        """Publish the next part of what is left; False: nothing was left."""
        part = list(islice(self._rest, AT_ONCE))
        for at in part:
            reason, cause = self._rest.pop(at)
            cluster = self.index.cluster(at[0])
            entry = cluster.objects.get(at[1])
            if entry is not None:
                self._publish_all(cluster, [Requeue(entry, reason, cause)])
            self.index.prune(cluster)
        return bool(part)

    def _publish_all(
        self, cluster: Cluster, requeues: Iterable[Requeue], *, at_once: int = AT_ONCE, seen: SeenObject | None = None
    ) -> int:
        """Publish an event for each, or defer it while the cluster is not engaged. Returns how many were published at once.

        ``seen``: the object whose change they are for.

        If an object gets an event while another one of it is left for later, the later one is not needed. It is kept if it
        has a cause that this event lacks, because NATS may drop this event as a repetition.
        """
        if not cluster.engaged:
            cluster.deferred.update(requeue.entry.key for requeue in requeues)
            return 0
        published, leaving = 0, cluster.leaving
        for requeue in requeues:
            entry = requeue.entry
            if not (_has_service(entry) and _may_act(entry, leaving=leaving)):
                continue
            at = (cluster.id, entry.key)
            if published < at_once:
                if self._rest.get(at, ("", ""))[1] in ("", requeue.cause):
                    self._rest.pop(at, None)
                self._publish(self._event(cluster, requeue, seen))
                published += 1
            elif requeue.cause or at not in self._rest:
                self._rest[at] = (requeue.reason, requeue.cause)
                self._has_rest.set()
        return published

    def _publish_crawls(self, cluster: Cluster, requeues: Iterable[Requeue]) -> None:
        """Publish what the crawler is to do. Nothing of it is deferred: each Connection's resync sees to it as well."""
        if cluster.engaged and not cluster.leaving:
            for requeue in requeues:
                self._publish(self._event(cluster, requeue))

    def _event(self, cluster: Cluster, requeue: Requeue, seen: SeenObject | None = None) -> ObjectEvent:
        entry, copy = requeue.entry, b""
        if seen is not None and entry is seen.entry and requeue.reason == "changed":
            copy = object_copy.encode(seen.raw)
        return ObjectEvent(
            resource=entry.key.resource,
            cluster=entry.cluster,
            name=entry.key.name,
            uid=entry.uid,
            generation=entry.generation,
            resource_version=entry.version,
            deleting=entry.deleting,
            reason=requeue.reason,
            endpoint=self._endpoint,
            versions=cluster.versions(entry),
            possible_duplicates=cluster.has_possible_duplicate(entry),
            cause=requeue.cause,
            copy=copy,
            seen_at=self._now() if copy else None,
        )


def _has_service(entry: Entry) -> bool:
    return KINDS[entry.key.resource].service is not None


def _has_turn(entry: Entry, *, leaving: bool) -> bool:
    """As of ``_may_act``, for the resync. It sees to it that an answer goes whose one message about that is lost."""
    return _may_act(entry, leaving=leaving) or (not leaving and KINDS[entry.key.resource].expires)


def _may_act(entry: Entry, *, leaving: bool) -> bool:
    """Whether a service has anything to do. In a cluster that gives up the API (``leaving``), objects are only released, and so
    is a request that has been answered.
    """
    return entry.deleting or not (leaving or entry.finished)
