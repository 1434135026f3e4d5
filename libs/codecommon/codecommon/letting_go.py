"""What is said and done when the clean-up of a deleted object is not possible. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from codecommon.api.meta import Resource
from codecommon.errors import Interruption, NotReady, Retryable, Terminal

_LEAVING_PATIENCE: Final = timedelta(minutes=5)


def may_give_up(obj: Resource[Any, Any], interruption: Interruption, now: datetime) -> bool:
    """Whether a workspace that gives up the API stops waiting for clean-up that was asked for explicitly.

    It never waits for a credential that is gone, and not for long for a host that is down.
    """
    since = obj.metadata.deletion_timestamp
    return not isinstance(interruption, Retryable) or since is None or now - since > _LEAVING_PATIENCE


def kept(interruption: Interruption, thing: str) -> Interruption:
    """What to say of an object whose clean-up is not possible: it stays, and a person can let go of it.

    ``thing``: what would be removed on the host, as in "the repository".
    """
    message = (
        f"{interruption.message}; restore the credential so that {thing} can be deleted on the host, "
        f"or set spec.deletionPolicy to Orphan to let go of this object and leave {thing}"
    )
    match interruption:
        case NotReady():
            return NotReady("CredentialUnavailable", message)
        case Terminal():
            return Terminal(interruption.reason, message)
        case _:
            return interruption
