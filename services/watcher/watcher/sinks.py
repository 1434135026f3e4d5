"""Where a stream's list and changes go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Sink(Protocol[T_contra]):
    """What a stream tells about one resource. A list is followed by changes; it may be broken off and begun anew."""

    def list_began(self) -> None: ...
    def put(self, item: T_contra) -> None: ...
    def gone(self, item: T_contra) -> None: ...
    def list_ended(self) -> None: ...


class ListedSink(Generic[T]):
    """One resource: passes changes on, and turns what a new list no longer names into deletions."""

    def __init__(
        self,
        *,
        put: Callable[[T], None],
        gone: Callable[[T], None],
        known: Callable[[], list[T]],
        identify: Callable[[T], object],
        ended: Callable[[], None],
    ) -> None:
        self._put = put
        self._gone = gone
        self._known = known
        self._identify = identify
        self._ended = ended
        self._named: set[object] | None = None

    def list_began(self) -> None:
        self._named = set()

    def put(self, item: T) -> None:
        if self._named is not None:
            self._named.add(self._identify(item))
        self._put(item)

    def gone(self, item: T) -> None:
        self._gone(item)

    def list_ended(self) -> None:
        named, self._named = self._named or set(), None
        for item in self._known():
            if self._identify(item) not in named:
                self._gone(item)
        self._ended()
