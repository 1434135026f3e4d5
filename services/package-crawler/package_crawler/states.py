"""What is kept of the crawl of each owner between two looks: a few bytes in the bucket ``CODE_CRAWL_STATES``."""

from __future__ import annotations

from hashlib import sha256

from codecommon.messaging.records import Records
from package_crawler.decide import State


class States:
    def __init__(self, records: Records) -> None:
        self._records = records

    async def of(self, cluster: str, connection_uid: str, owner: str) -> State:
        """What is known; nothing where nothing is stored. Raises ``BusUnavailable``."""
        record = await self._records.get(_key(cluster, connection_uid, owner))
        return State.decode(record.value) if record is not None else State()

    async def store(self, cluster: str, connection_uid: str, owner: str, state: State) -> None:
        """Raises ``BusUnavailable``. The owner's lock is held, so nobody else writes."""
        await self._records.put(_key(cluster, connection_uid, owner), state.encode())


def _key(cluster: str, connection_uid: str, owner: str) -> str:
    return f"{cluster}.{sha256(f'{connection_uid} {owner.lower()}'.encode()).hexdigest()[:32]}"
