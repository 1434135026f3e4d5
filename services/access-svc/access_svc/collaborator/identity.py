"""Which user an object is about, and what on the host is that user's. Pure.

A login is no identity: users rename themselves, and somebody else may take the old one. Once the id is known, only it counts.
"""

from __future__ import annotations

from typing import TypeVar

from access_svc.collaborator.decide import NOT_PENDING
from codecommon.api.access import Collaborator
from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.protocol import Grant, Invitation, Listed

SeenT = TypeVar("SeenT", Grant, Invitation)


def find_grant(obj: Collaborator, listed: Listed[Grant] | None) -> Grant | None:
    return _of_user(obj, listed)


def find_invitation(obj: Collaborator, listed: Listed[Invitation]) -> Invitation | None:
    """The user's invitation. Where the user's id is not known, that of the invitation in status goes before the login."""
    if obj.status.user_id is None and obj.status.invitation_id is not None:
        sent = next((seen for seen in listed.items if seen.id == obj.status.invitation_id), None)
        if sent is not None:
            return sent
    return _of_user(obj, listed)


def is_taken(obj: Collaborator, listed: Listed[Grant] | Listed[Invitation]) -> bool:
    """Whether the list shows somebody else under the login that the object names."""
    known, login = obj.status.user_id, obj.spec.username.lower()
    return known is not None and any(s.username.lower() == login and s.user_id != known for s in listed.items)


def is_for(other: Collaborator, user_id: str | None, login: str) -> bool:
    """Whether ``other`` is about the user with this id, who has this login now."""
    if user_id is not None and other.status.user_id is not None:
        return other.status.user_id == user_id
    return other.spec.username.lower() == login.lower()


def require_same_user(obj: Collaborator, found: str | None) -> None:
    """Before the user whose id is known is invited again; ``found``: the id of who has the login now.

    Raises ``Terminal``: ``UserChanged`` for somebody else, ``UserNotFound`` for nobody.
    """
    login, known = obj.spec.username, obj.status.user_id
    conditions = (NOT_PENDING,) if obj.status.invitation_id is not None else ()
    if found is None:
        raise Terminal(
            Reason.USER_NOT_FOUND,
            f"the host has no user {login} any more; if they have another username now, delete this object and create one "
            "with it",
            conditions=conditions,
        )
    if found != known:
        raise Terminal(
            Reason.USER_CHANGED,
            f"{login} is now another user on the host (id {found}) than the one that this object is for (id {known}), and is not "
            "invited; delete this object, which takes away the access that it gave, under whatever username that user has "
            "now, and create one with the username of whom you mean",
            conditions=conditions,
        )


def _of_user(obj: Collaborator, listed: Listed[SeenT] | None) -> SeenT | None:
    known, login = obj.status.user_id, obj.spec.username.lower()
    for seen in listed.items if listed is not None else ():
        if (seen.user_id == known) if known is not None else (seen.username.lower() == login):
            return seen
    return None
