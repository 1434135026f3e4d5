"""Blocks: a host refused an account's request because of a limit, and all processes pause that account.

A block is stored in the bucket ``CODE_BUDGETS``. Every process subscribes to the bucket, so storing a block tells all of them. If
that message is lost, a process finds the block when it next reads the bucket, half a minute later at most. To ask for a block
costs a lookup in a dictionary.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import orjson
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError
from nats.js.kv import KeyValue

from codecommon.githost.budget.shared import BudgetUnavailable, SingleFlight
from codecommon.githost.limits import LONGEST_PAUSE_SECONDS
from codecommon.messaging.bus import BUDGETS, Bus

_log = logging.getLogger(__name__)

_FIRST_SECONDS: Final = 60.0
# Twice as long after each refusal; the sixth is an hour already.
_MOST_STRIKES: Final = 10
_LOOK_EVERY_SECONDS: Final = 30.0
_MOST_KNOWN: Final = 4096
# The answers to one burst of requests name moments that differ by less than this.
_SAME_SECONDS: Final = 1.0
# Objects that wait for the end of a block come back within half a minute after it.
_AGAIN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Block:
    """A pause from ``since`` to ``until`` (epoch seconds). ``strikes``: refusals in a row that named no sufficient time."""

    since: float = 0.0
    until: float = 0.0
    strikes: int = 0


def blocked_by(known: Block, started: float, now: float, after: float | None, *, worked: bool = False) -> Block:
    """The block after a refusal of a request that was ``started`` then. ``after`` (seconds) None: the host named no time to come.

    ``worked``: since the last block ended, the host has carried out requests. So the time that it had named was long enough.
    """
    again = not worked and known.until <= started < known.until + _AGAIN_SECONDS
    if after is not None and not again:
        until = now + min(after, LONGEST_PAUSE_SECONDS)
        return Block(now, until, known.strikes) if until > known.until + _SAME_SECONDS else known
    if started < known.since:
        # The request was already under way when the block began, so its refusal says nothing about what we did since.
        return known
    strikes = known.strikes if now < known.until + LONGEST_PAUSE_SECONDS else 0
    seconds = max(after or 0.0, _FIRST_SECONDS * 2.0**strikes)
    return Block(now, now + min(seconds, LONGEST_PAUSE_SECONDS), min(strikes + 1, _MOST_STRIKES))


def stored_block(data: bytes, now: float) -> Block | None:
    """The block in an entry of the bucket, as read at ``now``; None for anything else.

    It ends at most ``LONGEST_PAUSE_SECONDS`` after the answer that it came from, whatever is stored.
    """
    try:
        told = Block(**orjson.loads(data))
        since = min(float(told.since), now)
        return Block(since, min(float(told.until), since + LONGEST_PAUSE_SECONDS), min(told.strikes, _MOST_STRIKES))
    except (ValueError, TypeError):
        return None


@dataclass(slots=True)
class _Known:
    """``looked``: when the bucket was last read; None: not yet. ``worked``: as of ``blocked_by``."""

    block: Block = field(default_factory=Block)
    worked: bool = False
    looked: float | None = None
    first_lookup: SingleFlight = field(default_factory=SingleFlight)


class Blocks:
    """The blocks of all accounts that this process uses. Call ``start`` first."""

    def __init__(self, bus: Bus, bucket: KeyValue, clock: Callable[[], float]) -> None:
        self._bus = bus
        self._bucket = bucket
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._looking: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        await self._bus.nc.subscribe(f"$KV.{BUDGETS}.block.*", cb=self._told)

    async def get(self, key: str) -> Block:
        """The block of an account as this process knows it. The first calls for an account wait until the bucket is read.

        Raises ``BudgetUnavailable`` as long as no such read has been answered.
        """
        known = self._entry(key)
        if known.looked is None:
            async with known.first_lookup.turn():
                if known.looked is None:
                    await self._look(key, first=True)
                    known.looked = self._clock()
        elif self._clock() - known.looked > _LOOK_EVERY_SECONDS:
            known.looked = self._clock()
            task = asyncio.create_task(self._look(key, first=False))
            self._looking.add(task)
            task.add_done_callback(self._looking.discard)
        return known.block

    async def refused(self, key: str, started: float, after: float | None) -> Block:
        """Record a refusal and tell the other processes. Returns the block that holds now."""
        known = self._entry(key)
        block = blocked_by(known.block, started, self._clock(), after, worked=known.worked)
        if block != known.block:
            known.block, known.worked = block, False
            try:
                await self._bucket.put(f"block.{key}", orjson.dumps(block))
            except (NatsError, TimeoutError) as error:
                _log.warning("other processes could not be told that a host wants a pause: %s", type(error).__name__)
        return block

    def answered(self, key: str, started: float) -> None:
        """Record that a request which was ``started`` then was not refused."""
        known = self._entry(key)
        if started >= known.block.until:
            known.worked = True

    async def aclose(self) -> None:
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)

    async def _look(self, key: str, *, first: bool) -> None:
        """Read the bucket. ``first``: nothing is known yet, so a failure raises ``BudgetUnavailable``."""
        try:
            entry = await self._bucket.get(f"block.{key}")
        except NotFoundError:
            return
        except (NatsError, TimeoutError) as error:
            _log.warning("cannot look whether a host wants a pause: %s", type(error).__name__)
            if first:
                raise BudgetUnavailable(type(error).__name__) from None
            return
        self._read(key, entry.value or b"")

    async def _told(self, msg: Msg) -> None:
        key = msg.subject.rpartition(".")[2]
        if key in self._known:
            self._read(key, msg.data)

    def _read(self, key: str, data: bytes) -> None:
        told, known = stored_block(data, self._clock()), self._entry(key)
        if told is not None and told.until > known.block.until:
            known.block, known.worked = told, False

    def _entry(self, key: str) -> _Known:
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Known()
        self._known.move_to_end(key)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return known
