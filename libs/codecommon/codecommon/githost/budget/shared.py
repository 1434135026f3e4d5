"""One ledger per account in NATS KV, written by compare-and-set, so that no process grants what another has granted already."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from nats.errors import Error as NatsError
from nats.js.errors import KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue

from codecommon.githost.budget.ledger import Ask, Granted, Ledger, Wait
from codecommon.githost.limits import Limits

_log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 0.02
_ATTEMPTS: Final = 50


class BudgetUnavailable(Exception):
    """NATS does not answer, so this process cannot know what the others have sent to the host, or what it told them."""


class SingleFlight:
    """One lookup at a time. Tasks that come meanwhile wait for it and share its failure, so none starts another in vain."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._failures = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises ``BudgetUnavailable`` where the lookup that this task waited for did."""
        failures = self._failures
        async with self._turn:
            if self._failures != failures:
                raise BudgetUnavailable
            try:
                yield
            except BudgetUnavailable:
                self._failures += 1
                raise


@dataclass(slots=True, eq=False)
class _Asked:
    ask: Ask
    answer: asyncio.Future[Granted | Wait]


@dataclass(frozen=True, slots=True)
class _Finished:
    ticket: str
    at: float
    free: bool


@dataclass(frozen=True, slots=True)
class _Stored:
    """``data``: what the ledger was encoded to; None: nothing is stored yet."""

    ledger: Ledger
    data: bytes | None
    revision: int


class SharedLedger:
    """The ledger of one account, for all tasks of this process. Requests that come during a write share the next write."""

    def __init__(self, bucket: KeyValue, key: str, limits: Limits, clock: Callable[[], float] = time.time) -> None:
        self._bucket = bucket
        self._key = f"ledger.{key}"
        self._limits = limits
        self._clock = clock
        self._waiting: list[_Asked | _Finished] = []
        self._writer: asyncio.Task[None] | None = None
        self._stored: _Stored | None = None
        self.reserved = 0
        """The number of reservations when the ledger was last seen."""

    async def ask(self, ask: Ask) -> Granted | Wait:
        """Raises ``BudgetUnavailable``."""
        asked = _Asked(ask, asyncio.get_running_loop().create_future())
        self._add(asked)
        try:
            return await asked.answer
        except asyncio.CancelledError:
            # Its place is free again, whether it was granted already or would be.
            self.finish(ask.ticket)
            raise

    def finish(self, ticket: str, *, free: bool = False) -> None:
        """The request is over, with any result. ``free``: it took nothing from the quota.

        It is written in the background. If that fails, the request counts until its ticket ends.
        """
        self._add(_Finished(ticket, self._clock(), free))

    async def flush(self) -> None:
        """Wait until everything that was settled is written."""
        while self._writer is not None:
            await asyncio.wait({self._writer})

    def _add(self, operation: _Asked | _Finished) -> None:
        self._waiting.append(operation)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    await self._write(batch)
                except Exception as error:  # noqa: BLE001 - every task that waits for an answer must get one, whatever failed
                    if not isinstance(error, NatsError | TimeoutError | BudgetUnavailable):
                        _log.exception("the shared budget cannot be written")
                    else:
                        _log.warning("the shared budget cannot be reached: %s", type(error).__name__)
                    for operation in batch:
                        if isinstance(operation, _Asked) and not operation.answer.done():
                            operation.answer.set_exception(BudgetUnavailable(type(error).__name__))
        finally:
            self._writer = None

    async def _write(self, batch: list[_Asked | _Finished]) -> None:
        for attempt in range(_ATTEMPTS):
            fresh = self._stored is None
            stored = self._stored or await self._read()
            # A change counts only once it is written. If that fails, the ledger is read again.
            self._stored, ledger = None, stored.ledger
            answers = self._apply(ledger, batch)
            encoded = ledger.encode()
            granted = any(isinstance(answer, Granted) for answer in answers.values())
            if encoded == stored.data or (stored.data is None and not granted):
                # A wait must not be the result of an old record: other processes may have finished since.
                if not fresh and answers:
                    continue
                self._stored = stored
            else:
                try:
                    revision = await self._bucket.update(self._key, encoded, last=stored.revision)
                    self._stored = _Stored(ledger, encoded, revision)
                except KeyWrongLastSequenceError:
                    await asyncio.sleep(random.random() * _RETRY_SECONDS * min(attempt, 5))
                    continue
            self.reserved = len(ledger.reservations)
            for asked, answer in answers.items():
                if not asked.answer.done():
                    asked.answer.set_result(answer)
            return
        raise BudgetUnavailable("always written by others")

    def _apply(self, ledger: Ledger, batch: list[_Asked | _Finished]) -> dict[_Asked, Granted | Wait]:
        now = self._clock()
        answers: dict[_Asked, Granted | Wait] = {}
        for operation in batch:
            if isinstance(operation, _Finished):
                ledger.finish(operation.ticket, self._limits, operation.at, free=operation.free)
            elif not operation.answer.done():
                answers[operation] = ledger.ask(operation.ask, self._limits, now)
        return answers

    async def _read(self) -> _Stored:
        try:
            entry = await self._bucket.get(self._key)
        except NotFoundError as missing:
            # A deleted entry has a revision all the same.
            deleted = getattr(missing, "entry", None)
            return _Stored(Ledger(), None, (deleted.revision or 0) if deleted is not None else 0)
        return _Stored(self._decoded(entry.value), entry.value, entry.revision or 0)

    def _decoded(self, data: bytes | None) -> Ledger:
        if not data:
            return Ledger()
        try:
            return Ledger.decode(data, self._clock())
        except (ValueError, KeyError, TypeError):
            _log.warning("the record of an account's requests cannot be read and is begun anew")
            return Ledger()
