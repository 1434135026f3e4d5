"""The changes of one endpoint, folded into the index and told as object events.

A feed is told of lists and changes per resource by the streams. Until every resource has been listed once it only learns;
then it tells what is unsettled, and from then on every change as it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from codecommon.api.kinds import CONNECTIONS, KINDS
from codecommon.messaging.events import ObjectEvent
from watcher import translate
from watcher.events import CausedEvent
from watcher.index import Binding, Cluster, Entry, Index, ObjectKey, SecretEntry
from watcher.resync import ResyncSchedule
from watcher.sinks import ListedSink, Sink
from watcher.translate import Requeue

SECRETS: Final = "secrets"
BINDINGS: Final = "apibindings"


class Feed:
    """Keeps the index of one endpoint; ``publish`` takes what is to be told."""

    def __init__(self, endpoint: str, publish: Callable[[ObjectEvent], None], resync: ResyncSchedule) -> None:
        self.index = Index()
        self._endpoint = endpoint
        self._publish = publish
        self._resync = resync
        self._unlisted = {*KINDS, SECRETS, BINDINGS}
        self.bound = asyncio.Event()
        """Set once a workspace has bound the export, which is when kcp begins to serve its resources."""

    @property
    def live(self) -> bool:
        """Whether every resource has been listed, so that references resolve."""
        return not self._unlisted

    def objects(self, resource: str) -> Sink[Entry]:
        return ListedSink(
            put=self._put_object,
            gone=self._object_gone,
            known=lambda: [e for c in self.index.clusters() for e in c.objects.values() if e.key.resource == resource],
            identify=lambda entry: (entry.cluster, entry.key),
            ended=lambda: self._listed(resource, resource),
        )

    def secrets(self) -> Sink[SecretEntry]:
        return ListedSink(
            put=self._put_secret,
            gone=self._secret_gone,
            known=lambda: [SecretEntry(c.id, k, v) for c in self.index.clusters() for k, v in c.secrets.items()],
            identify=lambda secret: (secret.cluster, secret.key),
            # What a Secret can leave unsettled is the Connection that has not seen it.
            ended=lambda: self._listed(SECRETS, CONNECTIONS.resource),
        )

    def bindings(self) -> Sink[Binding]:
        return ListedSink(
            put=self._put_binding,
            gone=self._binding_gone,
            known=lambda: [b for c in self.index.clusters() for b in c.bindings.values()],
            identify=lambda binding: (binding.cluster, binding.name),
            ended=lambda: self._listed(BINDINGS, None),
        )

    def resync(self, cluster_id: str, key: ObjectKey) -> None:
        """It is the object's turn."""
        cluster = self.index.cluster(cluster_id)
        entry = cluster.objects.get(key)
        if self.live and cluster.engaged and entry is not None and _to_be_told(cluster, entry):
            self._publish(self._event(cluster, Requeue(entry, "resync")))

    # ---- objects

    def _put_object(self, entry: Entry) -> None:
        cluster = self.index.cluster(entry.cluster)
        before = cluster.put(entry)
        if _served(entry) and (before is None or before.uid != entry.uid):
            if before is not None:
                self._resync.remove(entry.cluster, before.key, before.uid)
            self._resync.add(entry.cluster, entry.key, entry.uid)
        if self.live:
            self._tell(cluster, translate.object_changed(cluster, before, entry))

    def _object_gone(self, entry: Entry) -> None:
        cluster = self.index.cluster(entry.cluster)
        before = cluster.remove(entry.key)
        if before is not None:
            if _served(before):
                self._resync.remove(cluster.id, before.key, before.uid)
            if self.live:
                self._tell(cluster, translate.object_gone(cluster, before, entry.version))
        self.index.prune(cluster)

    # ---- secrets

    def _put_secret(self, secret: SecretEntry) -> None:
        cluster = self.index.cluster(secret.cluster)
        if cluster.secrets.get(secret.key) != secret.version:
            cluster.secrets[secret.key] = secret.version
            if self.live:
                self._tell(cluster, translate.secret_changed(cluster, secret.key))

    def _secret_gone(self, secret: SecretEntry) -> None:
        cluster = self.index.cluster(secret.cluster)
        if cluster.secrets.pop(secret.key, None) is not None and self.live:
            self._tell(cluster, translate.secret_changed(cluster, secret.key))
        self.index.prune(cluster)

    # ---- bindings

    def _put_binding(self, binding: Binding) -> None:
        self._set_binding(binding, binding)

    def _binding_gone(self, binding: Binding) -> None:
        self._set_binding(binding, None)

    def _set_binding(self, told: Binding, after: Binding | None) -> None:
        cluster = self.index.cluster(told.cluster)
        was_engaged, was_leaving = cluster.engaged, cluster.leaving
        before = cluster.bindings.pop(told.name, None)
        if after is not None:
            cluster.bindings[after.name] = after
        if cluster.engaged:
            self.bound.set()
        if self.live:
            if cluster.engaged and not was_engaged:
                self._engage(cluster)
            self._tell(
                cluster,
                translate.binding_changed(cluster, before, after, was_leaving=was_leaving, version=told.version),
            )
        self.index.prune(cluster)

    def _engage(self, cluster: Cluster) -> None:
        kept = set(cluster.kept)
        cluster.kept.clear()
        self._tell(
            cluster,
            [
                Requeue(entry, "changed" if entry.key in kept else "unsettled")
                for entry in cluster.objects.values()
                if entry.key in kept or translate.unsettled(cluster, entry)
            ],
        )

    # ---- telling

    def _listed(self, resource: str, unsettled: str | None) -> None:
        """A list ended: tell what is unsettled of ``unsettled``, or of everything when it was the last of the first lists."""
        if not self.live:
            self._unlisted.discard(resource)
            if self.live:
                self._tell_unsettled(lambda _: True)
        elif unsettled is not None:
            self._tell_unsettled(lambda entry: entry.key.resource == unsettled)

    def _tell_unsettled(self, among: Callable[[Entry], bool]) -> None:
        for cluster in self.index.clusters():
            if cluster.engaged:
                self._tell(
                    cluster,
                    [
                        Requeue(entry, "unsettled")
                        for entry in cluster.objects.values()
                        if among(entry) and translate.unsettled(cluster, entry)
                    ],
                )

    def _tell(self, cluster: Cluster, requeues: Iterable[Requeue]) -> None:
        if not cluster.engaged:
            cluster.kept.update(requeue.entry.key for requeue in requeues)
            return
        for requeue in requeues:
            if _served(requeue.entry) and _to_be_told(cluster, requeue.entry):
                self._publish(self._event(cluster, requeue))

    def _event(self, cluster: Cluster, requeue: Requeue) -> ObjectEvent:
        entry = requeue.entry
        return CausedEvent(
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
            possible_duplicates=bool(cluster.possible_duplicates(entry)),
            cause=requeue.cause,
        )


def _served(entry: Entry) -> bool:
    return KINDS[entry.key.resource].service is not None


def _to_be_told(cluster: Cluster, entry: Entry) -> bool:
    """In a cluster that gives up the API nothing but release is done."""
    return entry.deleting or not cluster.leaving
