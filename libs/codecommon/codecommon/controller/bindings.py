"""Workspaces that a moment ago were not giving up the API: their objects, which come together, need not all look again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from codecommon.api.meta import Workspace
from codecommon.messaging.locks import KeyedMutex

FRESH_SECONDS: Final = 15.0
"""For so long it is taken that a workspace stays: what the watcher told, or a look showed."""
_MOST_WORKSPACES: Final = 10_000


class Staying:
    """``clock``: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked = KeyedMutex()
        self._seen: OrderedDict[Workspace, float] = OrderedDict()

    async def confirm(self, workspace: Workspace, leaving: Callable[[], Awaitable[bool]]) -> bool:
        """Whether the workspace stays. ``leaving`` looks; those who ask at the same time wait for one look."""
        async with self._looked.hold(f"{workspace.endpoint} {workspace.cluster}"):
            # As old as its question: what came in between was not seen.
            asked = self._clock()
            seen = self._seen.get(workspace)
            if seen is not None and asked - seen <= FRESH_SECONDS:
                return True
            if await leaving():
                return False
            self._seen[workspace] = asked
            self._seen.move_to_end(workspace)
            if len(self._seen) > _MOST_WORKSPACES:
                self._seen.popitem(last=False)
            return True
