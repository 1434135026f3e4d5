"""Objects that the Go provider left: completed when they are read, so that no reconciler knows of them.

The Go provider recorded what an object stands for (``repoID``, ``keyID``, ``invitationID``, ``htmlURL``, ``secretRef``). It
recorded neither who made that nor the generation that it had applied. Each ``complete_…`` fills in what follows from the rest:

- ``origin``: ``Unrecorded``. ``resolve_origin`` decides it once the host has told when the thing was made.
- ``baselineGeneration``: the object's generation. An edit that the Go provider accepted may never have reached the host, so
  the settings on the host are taken as found until somebody edits the object again.

All functions are pure. They take objects as kcp sends them, and return them unchanged where the Go provider left nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from codecommon.api.origin import UNRECORDED, Origin, ReadOrigin, is_recorded
from codecommon.api.reasons import ConditionType

_JsonObject = dict[str, Any]

_IDENTIFIERS: Final = {"Repository": "repoID", "DeployKey": "keyID", "Collaborator": "invitationID"}
"""By kind, the status field in which the Go provider recorded what an object stands for on the host."""


def left_by_go_provider(kind: str, status: Mapping[str, Any]) -> bool:
    """Whether the Go provider bound an object with this status to something on the host, and nobody recorded who made that.

    Of a Collaborator whose access is in force it recorded nothing but Ready. A Collaborator that has a host was written by us.
    """
    identifier = _IDENTIFIERS.get(kind)
    if identifier is None or status.get("origin"):
        return False
    if kind == "Collaborator":
        return not status.get("host") and (bool(status.get(identifier)) or _is_ready(status))
    return bool(status.get(identifier))


def resolve_origin(origin: ReadOrigin, *, object_created_at: datetime, made_at: datetime | None) -> Origin:
    """Who made what the object stands for: ``origin`` where it is recorded, else what the times say.

    What is not older than the object counts as made for it. ``made_at`` None: the host tells no time, which is so for access.
    The Go provider set the access of every object that it reconciled, so it counts as given.
    """
    if is_recorded(origin):
        return origin
    return "Created" if made_at is None or made_at >= object_created_at else "Adopted"


def complete_repository(raw: _JsonObject) -> _JsonObject:
    """A Repository with host, owner and the visibility that was last acted on. The URL tells host and owner."""
    status = _status(raw)
    if not left_by_go_provider("Repository", status):
        return raw
    host, owner = _address(status.get("htmlURL") or "")
    return _with_status(
        raw,
        origin=UNRECORDED,
        host=status.get("host") or host,
        owner=status.get("owner") or owner,
        visibility=raw["spec"].get("visibility"),
        baselineGeneration=_generation(raw),
    )


def complete_deploy_key(raw: _JsonObject) -> _JsonObject:
    """A DeployKey. ``secretWithoutOwner``: its Secret has no owner reference, and is the object's because status names it.

    We write ``rotatedAt`` once the Secret has its owner reference. The Go provider wrote neither.
    """
    status = _status(raw)
    known: _JsonObject = {"secretWithoutOwner": bool(status.get("secretRef")) and not status.get("rotatedAt")}
    if left_by_go_provider("DeployKey", status):
        known["origin"] = UNRECORDED
        # A reconcile of ours that was interrupted may have recorded it. An edit since then is to be applied.
        known["baselineGeneration"] = status.get("baselineGeneration") or _generation(raw)
    return _with_status(raw, **known)


def complete_collaborator(raw: _JsonObject) -> _JsonObject:
    """A Collaborator with an origin and a baseline."""
    if not left_by_go_provider("Collaborator", _status(raw)):
        return raw
    return _with_status(raw, origin=UNRECORDED, baselineGeneration=_generation(raw))


def _address(url: str) -> tuple[str | None, str | None]:
    """Host and owner of a repository's URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None, None
    return parts.netloc or None, parts.path.strip("/").split("/")[0] or None


def _is_ready(status: Mapping[str, Any]) -> bool:
    return any(c["type"] == ConditionType.READY and c["status"] == "True" for c in status.get("conditions") or ())


def _generation(raw: _JsonObject) -> int:
    return raw["metadata"].get("generation", 0)


def _status(raw: _JsonObject) -> _JsonObject:
    return raw.get("status") or {}


def _with_status(raw: _JsonObject, **known: Any) -> _JsonObject:
    return {**raw, "status": {**_status(raw), **known}}
