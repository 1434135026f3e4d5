"""Where a stream writes what it sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Sink(Protocol[T_contra]):
    """Receives one resource: a list, then changes. A list may be broken off; a new one then begins."""

    def list_began(self) -> None: ...
    def put(self, item: T_contra) -> None: ...
    def delete(self, item: T_contra) -> None: ...
    def list_ended(self) -> None: ...


class ListedSink(Generic[T]):
    """Passes changes on. At the end of a list it deletes every known item that the list did not contain.

    Args:
        put: an item was added or changed.
        delete: an item was deleted.
        known: every item that is stored now.
        identify: what two versions of one item have in common.
        ended: a list ended, and the deletions are done.
    """

    def __init__(
        self,
        *,
        put: Callable[[T], None],
        delete: Callable[[T], None],
        known: Callable[[], list[T]],
        identify: Callable[[T], object],
        ended: Callable[[], None],
    ) -> None:
        self._put = put
        self._delete = delete
        self._known = known
        self._identify = identify
        self._ended = ended
        self._listed: set[object] | None = None
        """The identities that the list has contained so far; None: no list is under way."""

    def list_began(self) -> None:
        self._listed = set()

    def put(self, item: T) -> None:
        if self._listed is not None:
            self._listed.add(self._identify(item))
        self._put(item)

    def delete(self, item: T) -> None:
        self._delete(item)

    def list_ended(self) -> None:
        listed, self._listed = self._listed or set(), None
        for item in self._known():
            if self._identify(item) not in listed:
                self._delete(item)
        self._ended()
