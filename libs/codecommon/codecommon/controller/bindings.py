"""Whether a workspace is giving up our API, which is not the same as deleting its objects.

When a tenant disables the provider, or deletes the workspace, kcp deletes the APIBinding and with it every object. Then
objects are only released: nothing is made for such a workspace any more, and nothing is deleted on the host unless an
object asks for it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from codecommon.api.meta import Workspace
from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable
from codecommon.kcp.client import JsonObject, ProviderObjects
from codecommon.kcp.endpoints import EXPORT_NAME
from codecommon.process.mutex import KeyedMutex

FRESH_SECONDS: Final = 15.0
"""What was seen of a workspace's bindings counts for this long."""

_MOST_WORKSPACES: Final = 10_000


async def is_leaving(objects: ProviderObjects) -> bool:
    """Whether all bindings of our export in the workspace are being deleted. Read live.

    Raises ``Retryable`` (``BindingNotVisible``) where kcp shows no binding: it removes one only after our finalizers
    have left, so that answer is not yet the truth.
    """
    are_deleted = await objects.list("apibindings", keep=_is_deleted)
    if not are_deleted:
        raise Retryable(
            Reason.BINDING_NOT_VISIBLE, "kcp shows no APIBinding of this API in the workspace; looking again"
        )
    return all(are_deleted)


def _is_deleted(binding: JsonObject) -> bool | None:
    """Whether a binding is being deleted; None: it is of another export."""
    if binding["spec"]["reference"].get("export", {}).get("name") != EXPORT_NAME:
        return None
    return bool(binding["metadata"].get("deletionTimestamp"))


class BoundWorkspaces:
    """Remembers which workspaces were bound a moment ago, so that objects which come together look only once.

    ``clock``: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = KeyedMutex()
        self._seen: OrderedDict[Workspace, float] = OrderedDict()

    async def confirm(self, objects: ProviderObjects) -> bool:
        """Whether the workspace stays bound. Those who ask at the same time share one look. Raises as
        ``is_leaving``.
        """
        workspace = objects.workspace
        async with self._mutex.hold(f"{workspace.endpoint} {workspace.cluster}"):
            # The answer is as old as its question: what happened in between was not seen.
            asked = self._clock()
            seen = self._seen.get(workspace)
            if seen is not None and asked - seen <= FRESH_SECONDS:
                return True
            if await is_leaving(objects):
                return False
            self._seen[workspace] = asked
            self._seen.move_to_end(workspace)
            if len(self._seen) > _MOST_WORKSPACES:
                self._seen.popitem(last=False)
            return True
