"""The annotations that the provider reads or writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from codecommon.api.group import GROUP

RECONCILE_REQUESTED_AT: Final = f"{GROUP}/reconcile-requested-at"
"""Set by anybody to request a reconcile. A new value is a new request."""

PAUSED: Final = f"{GROUP}/paused"
"""``"true"`` stops all work on the object until the annotation or the object is removed."""

REQUESTED_BY: Final = f"{GROUP}/requested-by"
"""Written by a tool of the gateway: who called it, as the hub or the caller says. Nobody has verified it."""

REQUESTED_WITH: Final = f"{GROUP}/requested-with"
"""Written by a tool of the gateway: the client that called it, as the client says. Nobody has verified it."""

CLUSTER_ANNOTATION: Final = "kcp.io/cluster"
"""Set by kcp: the logical cluster that the object lives in."""

ACTED_ON_ANNOTATIONS: Final = frozenset({RECONCILE_REQUESTED_AT, PAUSED})
"""Annotations whose change is a reason to reconcile. Every other annotation belongs to somebody else."""

READ_ANNOTATIONS: Final = ACTED_ON_ANNOTATIONS | {CLUSTER_ANNOTATION}
"""All annotations that anything of ours reads."""

_MAX_REQUEST_LENGTH: Final = 256
"""The ``maxLength`` of ``status.lastHandledReconcileAt``. An annotation can be longer."""


def requested_at(annotations: Mapping[str, str]) -> str | None:
    """The value of ``RECONCILE_REQUESTED_AT``, cut to the length at which status repeats it; None: no request."""
    value = annotations.get(RECONCILE_REQUESTED_AT)
    return value[:_MAX_REQUEST_LENGTH] if value is not None else None
