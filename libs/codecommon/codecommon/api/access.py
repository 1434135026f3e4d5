"""DeployKey and Collaborator: access to one repository."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final, Literal, Self

from pydantic import Field

from codecommon.api import go_provider
from codecommon.api.meta import BaseStatus, Resource, Wire, Workspace
from codecommon.api.origin import ReadOrigin
from codecommon.api.reasons import ConditionType

AccessDeletionPolicy = Literal["Delete", "Orphan"]


class AccessSpec(Wire):
    """What both kinds have. ``repository_ref`` names the Repository object."""

    repository_ref: str
    deletion_policy: AccessDeletionPolicy | None = None


class AccessStatus(BaseStatus):
    """``baseline_generation``: the generation whose settings were taken as found on the host and are not applied."""

    host: str | None = None
    origin: ReadOrigin = None
    baseline_generation: int | None = None

    @property
    def bound(self) -> bool:
        return self.origin is not None


class DeployKeySpec(AccessSpec):
    """Without ``public_key`` the key pair is generated. ``rotate_every`` is a Go duration."""

    title: str | None = None
    public_key: str | None = None
    read_only: bool | None = None
    rotate_every: str | None = None


class KeySecretRef(Wire):
    name: str
    namespace: str | None = None


class DeployKeyStatus(AccessStatus):
    """``previous_key_id``: the key that a newer one replaced and that still works.

    ``rotated_at``: when the present pair came into force. ``title`` and ``read_only``: as last seen on the host.
    ``secret_without_owner``: the Secret that ``secret_ref`` names is this object's although it has no owner reference. It is
    inferred when the object is read, and not stored.
    """

    key_id: str | None = Field(None, alias="keyID")
    title: str | None = None
    read_only: bool | None = None
    previous_key_id: str | None = Field(None, alias="previousKeyID")
    rotated_at: datetime | None = None
    secret_ref: KeySecretRef | None = None
    secret_without_owner: bool = Field(False, exclude=True)


class DeployKey(Resource[DeployKeySpec, DeployKeyStatus]):
    @classmethod
    def parse(cls, raw: dict[str, Any], workspace: Workspace) -> Self:
        """Read a DeployKey as kcp sends it; its status is complete, whoever wrote it."""
        return super().parse(go_provider.complete_deploy_key(raw), workspace)


class CollaboratorSpec(AccessSpec):
    username: str
    permission: str = "push"
    expires_at: datetime | None = None


class CollaboratorStatus(AccessStatus):
    """``user_id``: whose access it is, whatever their login is now; None: the host has not shown it yet.

    ``invitations``: how many were sent since the spec last changed or the user last accepted. ``invited_at``: when the last
    was sent. ``wider_role``: the role that the host showed after the role in spec was set, where it is the wider of the two.
    """

    user_id: str | None = Field(None, alias="userID")
    invitation_id: str | None = Field(None, alias="invitationID")
    invitations: int | None = None
    invited_at: datetime | None = None
    wider_role: str | None = None


class Collaborator(Resource[CollaboratorSpec, CollaboratorStatus]):
    @classmethod
    def parse(cls, raw: dict[str, Any], workspace: Workspace) -> Self:
        """Read a Collaborator as kcp sends it; its status is complete, whoever wrote it."""
        return super().parse(_with_wider_role(go_provider.complete_collaborator(raw)), workspace)


_WIDER_ROLE: Final = re.compile("the user has (.+) through a team")


def _with_wider_role(raw: dict[str, Any]) -> dict[str, Any]:
    """The object with ``status.widerRole``, which was once only in the message of WiderAccess."""
    status: dict[str, Any] = raw.get("status") or {}
    if "widerRole" in status:
        return raw
    for condition in status.get("conditions") or ():
        if condition["type"] == ConditionType.WIDER_ACCESS:
            told = _WIDER_ROLE.match(condition.get("message", ""))
            return {**raw, "status": {**status, "widerRole": told[1]}} if told else raw
    return raw
