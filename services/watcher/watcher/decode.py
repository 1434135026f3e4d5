"""From an object as kcp sends it to the few values that the index keeps of it.

Of a Secret, everything else is dropped here, annotations above all: ``kubectl apply`` leaves a Secret's data in one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from sys import intern
from typing import Any, Final, TypeVar

from codecommon.api.annotations import ACTED_ON_ANNOTATIONS, CLUSTER_ANNOTATION, requested_at
from codecommon.api.go_provider import left_by_go_provider
from codecommon.api.kinds import KindSpec
from codecommon.api.request import is_finished
from codecommon.kcp.client import JsonObject
from watcher.index import Binding, Entry, ObjectKey, SecretEntry, SecretKey, SeenObject

T = TypeVar("T")

_ACTED_ON: Final = tuple(sorted(ACTED_ON_ANNOTATIONS))
_DNS_NAME: Final = re.compile(r"[a-z0-9.-]{1,253}")
"""The names that kcp allows. No token has this shape, so a garbled line cannot put a token in the place of a name."""


class UndecodableObject(Exception):
    """The object lacks a field that every object has. The message names the type of the error and nothing of the object."""


def guarded(decode: Callable[[JsonObject], T]) -> Callable[[JsonObject], T]:
    """``decode``, raising ``UndecodableObject`` without context for any object of an unexpected shape."""

    def guard(raw: JsonObject) -> T:
        try:
            return decode(raw)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            failure = type(error).__name__
        # Raised outside the handler: __context__ would keep the original, whose text may quote the object.
        raise UndecodableObject(failure)

    return guard


def object_decoder(kind: KindSpec[Any], credentials_namespace: str) -> Callable[[JsonObject], Entry]:
    """The decoder for one kind. A reference to a Secret without a namespace points to ``credentials_namespace``."""
    resource, finalizer, reference = intern(kind.resource), kind.finalizer, kind.reference
    secret_reference, identity, duplicates = kind.secret_reference, kind.identity, kind.duplicates
    request = kind.request

    def decode(raw: JsonObject) -> Entry:
        metadata: JsonObject = raw["metadata"]
        spec: JsonObject = raw.get("spec") or {}
        status: JsonObject = raw.get("status") or {}
        annotations: dict[str, str] = metadata["annotations"]
        requested = requested_at(annotations)
        secret: SecretKey | None = None
        if secret_reference is not None:
            ref: JsonObject = spec[secret_reference]
            secret = SecretKey(intern(ref.get("namespace") or credentials_namespace), str(ref["name"]))
        duplicate_key = duplicates.key(spec) if duplicates is not None else None
        rival_key = duplicates.rivals(spec) if duplicates is not None and duplicates.rivals is not None else None
        return Entry(
            cluster=intern(annotations[CLUSTER_ANNOTATION]),
            key=ObjectKey(resource, str(metadata["name"])),
            uid=str(metadata["uid"]),
            version=str(metadata["resourceVersion"]),
            generation=int(metadata.get("generation", 0)),
            observed_generation=status.get("observedGeneration"),
            deleting="deletionTimestamp" in metadata,
            has_finalizer=finalizer in metadata.get("finalizers", ()),
            ready_condition=any(
                condition["type"] == "Ready" and condition["status"] == "True"
                for condition in status.get("conditions", ())
            ),
            metadata_hash=_hash(*map(annotations.get, _ACTED_ON), frozenset(metadata.get("labels", {}).items())),
            identity_hash=_hash(*map(status.get, identity)),
            duplicate_hash=_hash(*duplicate_key) if duplicate_key is not None else None,
            rival_hash=_hash(*rival_key) if rival_key is not None else None,
            created=str(metadata.get("creationTimestamp", "")),
            reconcile_requested=requested is not None and requested != status.get("lastHandledReconcileAt"),
            finished=request and is_finished(status),
            left_by_go_provider=left_by_go_provider(kind.kind, status),
            parent=intern(str(spec[reference])) if reference else None,
            secret=secret,
            observed_secret=status.get("observedSecretVersion"),
        )

    return guarded(decode)


def seen_decoder(kind: KindSpec[Any], credentials_namespace: str) -> Callable[[JsonObject], SeenObject]:
    """As ``object_decoder``, beside the object itself."""
    decode = object_decoder(kind, credentials_namespace)
    return lambda raw: SeenObject(decode(raw), raw)


def _secret(raw: JsonObject) -> SecretEntry:
    metadata: JsonObject = raw["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    if not (_DNS_NAME.fullmatch(namespace) and _DNS_NAME.fullmatch(name)):
        raise ValueError
    return SecretEntry(
        cluster=intern(metadata["annotations"][CLUSTER_ANNOTATION]),
        key=SecretKey(intern(namespace), name),
        version=str(metadata["resourceVersion"]),
    )


def _binding(raw: JsonObject) -> Binding:
    metadata: JsonObject = raw["metadata"]
    status: JsonObject = raw.get("status") or {}
    return Binding(
        cluster=intern(metadata["annotations"][CLUSTER_ANNOTATION]),
        name=str(metadata["name"]),
        version=str(metadata["resourceVersion"]),
        bound=status.get("phase") == "Bound",
        terminating="deletionTimestamp" in metadata,
        schemas=_hash(frozenset(served["schema"]["UID"] for served in status.get("boundResources") or ())),
    )


secret: Final = guarded(_secret)
binding: Final = guarded(_binding)


def _hash(*parts: Hashable) -> int:
    return hash(parts)
