"""From an object as kcp sends it to what the index keeps of it.

Everything else, annotations above all, is dropped here: ``kubectl apply`` leaves a Secret's data in one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from sys import intern
from typing import Any, Final, TypeVar

from codecommon.api.kinds import (
    ACTED_ON_ANNOTATIONS,
    CLUSTER_ANNOTATION,
    COLLABORATORS,
    CONNECTIONS,
    DEPLOY_KEYS,
    REPOSITORIES,
    KindSpec,
    requested_at,
)
from codecommon.kcp.client import JsonObject
from watcher.index import Binding, Entry, ObjectKey, SecretEntry, SecretKey

T = TypeVar("T")

_MARKS: Final = tuple(sorted(ACTED_ON_ANNOTATIONS))
_DNS_NAME: Final = re.compile(r"[a-z0-9.-]{1,253}")
"""What kcp lets be a name; no token has this shape, so that a garbled line cannot put one in the place of a name."""

_IDENTITY: Final = ("repoID", "login", "host", "owner")
"""Status fields that say who an object is on the host; each kind has some of them."""

_BOUND: Final = ("repoID", "keyID", "invitationID")
"""Status fields in which today's provider recorded what an object stands for on the host."""


def _nothing(spec: JsonObject) -> int | None:
    return None


def _repository_name(spec: JsonObject) -> int | None:
    return _digest(spec["name"].lower()) if "name" in spec else None


def _public_key(spec: JsonObject) -> int | None:
    return _digest(spec["repositoryRef"], *spec["publicKey"].split()[:2]) if spec.get("publicKey") else None


def _user(spec: JsonObject) -> int | None:
    return _digest(spec["repositoryRef"], spec["username"].lower())


class UndecodableObject(Exception):
    """An object without the fields that every object has. Says which type of error it was, nothing of the object."""


_TWIN_OF: Final[dict[str, Callable[[JsonObject], int | None]]] = {
    REPOSITORIES.resource: _repository_name,
    DEPLOY_KEYS.resource: _public_key,
    COLLABORATORS.resource: _user,
}
"""What only one object of a kind in a workspace may stand for on the host."""


def guarded(decode: Callable[[JsonObject], T]) -> Callable[[JsonObject], T]:
    """``decode``, raising ``UndecodableObject`` for whatever is wrong with an object, with no other error chained to it."""

    def guard(raw: JsonObject) -> T:
        try:
            return decode(raw)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            failure = type(error).__name__
        # Raised outside the handler: __context__ would keep the original, whose text may quote the object.
        raise UndecodableObject(failure)

    return guard


def object_decoder(kind: KindSpec, credentials_namespace: str) -> Callable[[JsonObject], Entry]:
    """The decoder of one kind of ours. ``credentials_namespace`` is where a secretRef without a namespace points."""
    resource, finalizer = intern(kind.resource), kind.finalizer
    reference = kind.reference
    has_secret = kind is CONNECTIONS
    twin_of = _TWIN_OF.get(kind.resource, _nothing)

    def decode(raw: JsonObject) -> Entry:
        metadata: JsonObject = raw["metadata"]
        spec: JsonObject = raw.get("spec") or {}
        status: JsonObject = raw.get("status") or {}
        annotations: dict[str, str] = metadata["annotations"]
        requested = requested_at(annotations)
        secret: SecretKey | None = None
        if has_secret:
            ref: JsonObject = spec["secretRef"]
            secret = SecretKey(intern(ref.get("namespace") or credentials_namespace), str(ref["name"]))
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
            marks=_digest(*map(annotations.get, _MARKS), frozenset(metadata.get("labels", {}).items())),
            identity=_digest(*map(status.get, _IDENTITY)),
            requested=requested is not None and requested != status.get("lastHandledReconcileAt"),
            twin=twin_of(spec),
            unrecorded="origin" not in status and any(field in status for field in _BOUND),
            parent=intern(str(spec[reference])) if reference else None,
            secret=secret,
            observed_secret=status.get("observedSecretVersion"),
        )

    return guarded(decode)


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
    return Binding(
        cluster=intern(metadata["annotations"][CLUSTER_ANNOTATION]),
        name=str(metadata["name"]),
        version=str(metadata["resourceVersion"]),
        bound=(raw.get("status") or {}).get("phase") == "Bound",
        terminating="deletionTimestamp" in metadata,
    )


secret: Final = guarded(_secret)
binding: Final = guarded(_binding)


def _digest(*parts: Any) -> int:
    return hash(parts)
