"""How much of bundles one process has in memory at once. What is over that comes back a little later.

Commits and checkouts have one of these each, because a checkout holds its bytes for as long as the host takes to send them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from codecommon.githost.protocol import HostBusy

_MOST: Final = 64 * 1024 * 1024
_MOST_OF_A_WORKSPACE: Final = 32 * 1024 * 1024
_AGAIN: Final = timedelta(seconds=1)


class NotYet(HostBusy):
    """It is not this object's turn. That is neither written to status nor counted as a failure."""

    def __init__(self, message: str, after: timedelta) -> None:
        super().__init__("", after.total_seconds())
        self._message = message


class BundleMemory:
    """``most`` bytes for all workspaces, ``most_each`` for one. A bundle that is larger has the whole for itself.

    ``again``: when whoever finds no room comes back.
    """

    def __init__(self, most: int = _MOST, most_each: int = _MOST_OF_A_WORKSPACE, *, again: timedelta = _AGAIN) -> None:
        self._most = most
        self._most_each = most_each
        self._again = again
        self._held = Counter[str]()

    @contextmanager
    def hold(self, cluster: str, size: int) -> Iterator[None]:
        """Count ``size`` bytes while the body runs. Raises ``NotYet`` where they would be too many."""
        size = min(size, self._most_each)
        if self._held[cluster] + size > self._most_each or self._held.total() + size > self._most:
            raise NotYet("other bundles are in memory; waiting for a turn", self._again)
        self._held[cluster] += size
        try:
            yield
        finally:
            self._held[cluster] -= size
            if not self._held[cluster]:
                del self._held[cluster]
