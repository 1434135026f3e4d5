"""Who gave the access, and from which generation on spec applies. Pure."""

from __future__ import annotations

from typing import Any

from codecommon.api.access import Collaborator
from codecommon.api.annotations import CREATE_CLAIM
from codecommon.api.reasons import ConditionType
from codecommon.api.repository import Origin
from codecommon.controller.create_claim import claimed
from codecommon.githost.protocol import Invitation


def origin_of(obj: Collaborator, invitation: Invitation | None) -> Origin:
    """Who gave it: what status records; else the claim. Today's provider sets the access of every object that it reconciles."""
    if obj.status.origin is not None:
        return obj.status.origin
    if taken_over(obj):
        return "Created"
    if invitation is not None:
        return "Created" if claimed(obj, invitation.created_at) else "Adopted"
    # A grant has no time. The claim is withdrawn after a clear no, so what it stands for was sent.
    return "Created" if CREATE_CLAIM in obj.metadata.annotations else "Adopted"


def taken_over(obj: Collaborator) -> bool:
    """Whether today's provider reconciled it: it left a result, and no record of who gave the access or where."""
    ready = obj.status.condition(ConditionType.READY)
    done = ready is not None and ready.status == "True"
    recorded = obj.status.origin is not None or obj.status.host is not None
    return not recorded and (done or obj.status.invitation_id is not None)


def baseline_after(obj: Collaborator) -> int | None:
    """The generation whose permission counts as found: the one at which an object of today's provider is taken over."""
    return obj.metadata.generation if taken_over(obj) else obj.status.baseline_generation


def taking_over(obj: Collaborator) -> dict[str, Any]:
    """What an interrupted pass records of an object of today's provider, whose own result it is about to replace in status."""
    return {"origin": "Created", "baselineGeneration": obj.metadata.generation} if taken_over(obj) else {}
