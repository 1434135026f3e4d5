"""Poison messages: those whose handling ends the process.

The number of deliveries does not tell. The server also delivers a message again that was put back on purpose, or whose
handler lives and could not say so in time.

So a replica writes a note with its id before it handles a redelivery, while it holds the object's lock. It removes the
note with the result, whatever that is. Another replica can get the lock only after the first one released it or ended.
If it then finds the note, it counts a death. A replica that finds its own note lives, and counts none.

One case counts although nobody died: a replica that lives, and could not renew its lock for as long as the lock's TTL.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from codecommon.messaging.events import ObjectEvent

POISON_AFTER: Final = 4
"""So many deaths that were noted. A first delivery costs no note, so this is the fifth process in most cases."""


class Attempt:
    """One delivery of an object's message, by a replica that holds the object's lock when it calls ``begin``.

    ``deaths``: how many processes ended while they handled the object. ``noted``: set once the note is written, or
    where none is needed.
    """

    def __init__(self, bucket: KeyValue, key: str, replica: str, *, is_first: bool) -> None:
        self._bucket = bucket
        self._key = key
        self._replica = replica
        self._is_first = is_first
        self._revision: int | None = None
        self.deaths = 0
        self.noted = asyncio.Event()
        if is_first:
            self.noted.set()

    async def begin(self) -> bool:
        """Note that the object is about to be handled; returns whether it is poison. A first delivery costs no request."""
        if self._is_first:
            return False
        deaths, replica = await self._read()
        self.deaths = deaths + (replica is not None and replica != self._replica)
        self._revision = await self._bucket.put(self._key, f"{self.deaths} {self._replica}".encode())
        self.noted.set()
        return self.deaths >= POISON_AFTER

    async def over(self) -> None:
        """The handler came to a result, or this process lives without one: forget the deaths.

        Leaves the note of a replica that has taken over since. Without NATS the note stays until it expires.
        """
        if self._revision is not None:
            # A note that is not ours any more is an APIError, which is a NatsError.
            with suppress(NatsError, TimeoutError):
                await self._bucket.delete(self._key, last=self._revision)
            self._revision = None

    async def _read(self) -> tuple[int, str | None]:
        """The deaths so far, and who noted itself last. A note of an earlier version says neither."""
        try:
            entry = await self._bucket.get(self._key)
        except KeyNotFoundError:
            return 0, None
        deaths, _, replica = (entry.value or b"").decode().partition(" ")
        return (int(deaths), replica) if replica else (0, None)


class PoisonMessages:
    """Counts the processes that handling an object ended, by object, in the bucket ``CODE_POISON_MESSAGES``."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    def attempt(self, msg: Msg, event: ObjectEvent, replica: str, *, key: str = "") -> Attempt:
        """``key``: of the note, where more than one message is about the object."""
        return Attempt(self._bucket, key or event.uid, replica, is_first=msg.metadata.num_delivered <= 1)
