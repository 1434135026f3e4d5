"""What happens to a deleted object whose clean-up on the host is not possible."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Any, Final

from codecommon.api.meta import Resource
from codecommon.api.reasons import Reason
from codecommon.api.results import Interruption, NotReady, Retryable, Terminal
from codecommon.controller.context import ReconcileContext
from codecommon.controller.ownership import OwnershipDisputed

_log = logging.getLogger(__name__)

_LEAVING_PATIENCE: Final = timedelta(minutes=5)


async def carried_out(ctx: ReconcileContext[Any], work: Awaitable[object], thing: str, *, leaving: bool) -> bool:
    """Await the clean-up ``work``. Returns False if it was not possible and the object is let go all the same.

    That happens only to a workspace that gives up the API (``leaving``). Otherwise the object stays: the interruption
    that is raised says what a person can do. ``thing``: what would be removed on the host, as in "the repository".
    """
    try:
        await work
    except Interruption as interruption:
        if leaving and may_give_up(ctx.object, interruption, ctx.now):
            _log.warning(
                "the workspace gives up the API and clean-up is not possible: released (%s)", interruption.reason
            )
            return False
        raise _with_ways_out(interruption, thing) from None
    return True


def may_give_up(obj: Resource[Any, Any], interruption: Interruption, now: datetime) -> bool:
    """Whether a workspace that gives up the API stops waiting for a clean-up that an object asked for.

    It never waits for a credential that is gone. For a host that is down it waits five minutes.
    """
    since = obj.metadata.deletion_timestamp
    return not isinstance(interruption, Retryable) or since is None or now - since > _LEAVING_PATIENCE


def _with_ways_out(interruption: Interruption, thing: str) -> Interruption:
    if isinstance(interruption, OwnershipDisputed):
        # It names its own, and the credential is not what is missing.
        return interruption
    message = (
        f"{interruption.message}; restore the credential so that {thing} can be deleted on the host, "
        f"or set spec.deletionPolicy to Orphan to let go of this object and leave {thing}"
    )
    match interruption:
        case NotReady():
            return NotReady(Reason.CREDENTIAL_UNAVAILABLE, message)
        case Terminal():
            # Its type stays: whoever looks at the credential again knows by it that the host rejected it.
            return interruption.reworded(message)
        case _:
            return interruption
