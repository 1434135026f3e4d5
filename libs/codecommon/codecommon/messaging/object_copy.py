"""The copy of an object that an event carries: what a reconciler reads of the object, and nothing else.

Annotations of other tools are left out: ``kubectl apply`` leaves whole objects in one. A spec holds references and no secret, but
somebody may have pasted one into it, such as a private key in the place of the public one. Such an object has no copy.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from codecommon.api.annotations import CLUSTER_ANNOTATION
from codecommon.api.group import GROUP
from codecommon.process.redact import redact

MOST_BYTES: Final = 32 << 10
"""The greatest length of a copy, as JSON. An object is a kilobyte or two; a larger one is read from kcp."""

MOST_WRITTEN_BYTES: Final = 1 << 10
"""The greatest length of what a tenant wrote of it. To search a kilobyte for secrets takes up to a millisecond."""

_METADATA: Final = ("name", "uid", "resourceVersion", "generation", "creationTimestamp", "finalizers")
_OUR_ANNOTATIONS: Final = f"{GROUP}/"


def encode(raw: dict[str, Any]) -> bytes:
    """The copy of an object that kcp sent, as JSON.

    Empty for an object that is read from kcp: it is too large, contains what looks like a secret, or is being deleted.
    """
    if "deletionTimestamp" in raw["metadata"]:
        return b""
    copy = _reduced(raw)
    written = _dump([copy["metadata"]["annotations"], copy.get("spec")], MOST_WRITTEN_BYTES).decode()
    if not written or redact(written) != written:
        return b""
    return _dump(copy, MOST_BYTES)


def decode(copy: object, *, cluster: str, name: str, uid: str, resource_version: str) -> bytes:
    """``copy`` as it was in a message, as JSON. Empty: it is no copy of the object in that version."""
    try:
        reduced = _reduced(copy)  # type: ignore[arg-type]
        metadata = reduced["metadata"]
        found = (metadata["annotations"][CLUSTER_ANNOTATION], metadata["name"], metadata["uid"])
        if (*found, metadata["resourceVersion"]) != (cluster, name, uid, resource_version):
            return b""
    except (KeyError, TypeError, AttributeError):
        return b""
    return _dump(reduced, MOST_BYTES)


def _reduced(raw: dict[str, Any]) -> dict[str, Any]:
    metadata: dict[str, Any] = raw["metadata"]
    annotations: dict[str, str] = metadata["annotations"]
    return {
        "metadata": {
            **{name: metadata[name] for name in _METADATA if name in metadata},
            "annotations": {
                name: value
                for name, value in annotations.items()
                if name == CLUSTER_ANNOTATION or name.startswith(_OUR_ANNOTATIONS)
            },
        },
        **{part: raw[part] for part in ("spec", "status") if raw.get(part) is not None},
    }


def _dump(value: object, most: int) -> bytes:
    """``value`` as JSON; empty where that is longer than ``most`` bytes, or nested too deeply."""
    try:
        encoded = orjson.dumps(value)
    except TypeError:
        return b""
    return encoded if len(encoded) <= most else b""
