"""What can be decided about one user's access. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from codecommon.api.repository import Origin
from codecommon.githost.protocol import Grant, Invitation


@dataclass(frozen=True, slots=True)
class Nothing:
    """The access has ended and there is none on the host that is this object's. ``origin`` None: it never had any."""

    origin: Origin | None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The access has ended and is to be taken away."""

    origin: Origin


@dataclass(frozen=True, slots=True)
class Keep:
    """The grant is there. ``differs``: with another role, which is left as found."""

    grant: Grant
    origin: Origin
    differs: bool = False
    wider: bool = False


@dataclass(frozen=True, slots=True)
class ChangeRole:
    grant: Grant
    origin: Origin


@dataclass(frozen=True, slots=True)
class Wait:
    """The invitation is open. ``change``: it offers another role than wanted."""

    invitation: Invitation
    origin: Origin
    change: bool = False


@dataclass(frozen=True, slots=True)
class Invite:
    """Grant or invite. ``instead_of``: an invitation that must be withdrawn before. ``sent``: how many were sent so far."""

    sent: int
    instead_of: Invitation | None = None


Decision = Nothing | Withdraw | Keep | ChangeRole | Wait | Invite
