"""DeployKey and Collaborator: access to one repository."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from codecommon.api.meta import BaseStatus, Resource, Wire
from codecommon.api.repository import Origin

AccessDeletionPolicy = Literal["Delete", "Orphan"]


class AccessSpec(Wire):
    """What both kinds have. ``repository_ref`` names the Repository object."""

    repository_ref: str
    deletion_policy: AccessDeletionPolicy | None = None


class AccessStatus(BaseStatus):
    """``baseline_generation``: the generation whose settings were taken as found on the host and are not applied."""

    host: str | None = None
    origin: Origin | None = None
    baseline_generation: int | None = None

    @property
    def bound(self) -> bool:
        return self.origin is not None


class DeployKeySpec(AccessSpec):
    """Without ``public_key`` the key pair is generated; ``rotate_every`` is a Go duration."""

    title: str | None = None
    public_key: str | None = None
    read_only: bool | None = None
    rotate_every: str | None = None


class KeySecretRef(Wire):
    name: str
    namespace: str | None = None


class DeployKeyStatus(AccessStatus):
    """``previous_key_id``: the key that a newer one replaced and that still works. ``rotated_at``: when the present pair came
    into force. ``title`` and ``read_only``: as last seen on the host."""

    key_id: str | None = Field(None, alias="keyID")
    title: str | None = None
    read_only: bool | None = None
    previous_key_id: str | None = Field(None, alias="previousKeyID")
    rotated_at: datetime | None = None
    secret_ref: KeySecretRef | None = None

    @property
    def bound(self) -> bool:
        return self.key_id is not None or super().bound


class DeployKey(Resource[DeployKeySpec, DeployKeyStatus]):
    pass


class CollaboratorSpec(AccessSpec):
    username: str
    permission: str = "push"
    expires_at: datetime | None = None


class CollaboratorStatus(AccessStatus):
    """``user_id``: whose access it is, whatever they are called by now; None: not seen yet. ``invitations``: how many were sent
    since the spec last changed or somebody accepted; ``invited_at``: the last of them."""

    user_id: str | None = Field(None, alias="userID")
    invitation_id: str | None = Field(None, alias="invitationID")
    invitations: int | None = None
    invited_at: datetime | None = None

    @property
    def bound(self) -> bool:
        return self.invitation_id is not None or super().bound


class Collaborator(Resource[CollaboratorSpec, CollaboratorStatus]):
    pass
