"""A cache that all workspaces share, and that none of them can fill alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class SharedCache(Generic[K, V]):
    """The entries that were used last: ``most`` in all, and ``most_each`` of one workspace.

    Both are sums of sizes; an entry has the size 1 unless it is told. ``workspace_of``: whose an entry is, by its key.
    """

    def __init__(self, most: int, most_each: int, workspace_of: Callable[[K], str]) -> None:
        self._most = most
        self._most_each = most_each
        self._workspace_of = workspace_of
        self._size = 0
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        # By workspace: the sizes of its entries in the order of their use, and their sum.
        self._own: dict[str, OrderedDict[K, None]] = {}
        self._own_size: dict[str, int] = {}

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def get(self, key: K) -> V | None:
        """The value, which counts as used now."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        self._own[self._workspace_of(key)].move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, size: int = 1) -> None:
        self.drop(key)
        workspace = self._workspace_of(key)
        self._entries[key] = value, size
        self._own.setdefault(workspace, OrderedDict())[key] = None
        self._own_size[workspace] = self._own_size.get(workspace, 0) + size
        self._size += size
        while self._own_size.get(workspace, 0) > self._most_each:
            self.drop(next(iter(self._own[workspace])))
        while self._size > self._most:
            self.drop(next(iter(self._entries)))

    def drop(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        workspace = self._workspace_of(key)
        self._size -= entry[1]
        self._own_size[workspace] -= entry[1]
        del self._own[workspace][key]
        if not self._own[workspace]:
            del self._own[workspace], self._own_size[workspace]
