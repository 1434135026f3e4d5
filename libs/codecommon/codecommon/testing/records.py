"""Records in memory. tests/messaging/test_records.py holds them and a bucket in NATS to the same cases."""

from __future__ import annotations

from collections.abc import Callable

from codecommon.messaging.bus import BusUnavailable
from codecommon.messaging.records import Record


class InMemoryRecords:
    """``stored``: the records by key. ``before``: called with the name of each method and its key; it may act as another
    process would in between. ``down``: NATS does not answer.
    """

    def __init__(self) -> None:
        self.stored: dict[str, Record] = {}
        self.calls: list[tuple[str, str]] = []
        self.before: Callable[[str, str], object] = lambda method, key: None
        self.down = False
        self._revision = 0

    async def get(self, key: str) -> Record | None:
        self._called("get", key)
        return self.stored.get(key)

    async def put(self, key: str, value: bytes) -> None:
        self._called("put", key)
        self._store(key, value)

    async def create(self, key: str, value: bytes) -> bool:
        self._called("create", key)
        if key in self.stored:
            return False
        self._store(key, value)
        return True

    async def update(self, key: str, value: bytes, revision: int) -> bool:
        self._called("update", key)
        stored = self.stored.get(key)
        if stored is None or stored.revision != revision:
            return False
        self._store(key, value)
        return True

    async def remove(self, key: str, revision: int) -> None:
        self._called("remove", key)
        stored = self.stored.get(key)
        if stored is not None and stored.revision <= revision:
            del self.stored[key]

    def lose(self) -> None:
        """Forget everything, as a NATS that lost its data."""
        self.stored.clear()

    def _called(self, method: str, key: str) -> None:
        self.calls.append((method, key))
        self.before(method, key)
        if self.down:
            raise BusUnavailable("down")

    def _store(self, key: str, value: bytes) -> None:
        self._revision += 1
        self.stored[key] = Record(value, self._revision)
