"""Who made what on the git hosts, across workspaces, and the create claims: kept in NATS, where no tenant writes.

The bucket ``CODE_OWNERS`` has a record per thing that an object made, and ``CODE_CREATE_CLAIMS`` a claim per object that is
about to make something. ADR 9 says why.

Every method raises ``Retryable`` (``OwnershipUnknown``) when NATS does not answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from codecommon.api.claim import Claim
from codecommon.api.meta import Resource
from codecommon.api.origin import Origin
from codecommon.api.reasons import Reason
from codecommon.api.results import Retryable, Terminal
from codecommon.controller.owner_record import Holder, OwnerRecord, Standing, Thing
from codecommon.controller.ownership_rebuild import is_rebuilt, rebuild
from codecommon.kcp.client import ProviderKcp
from codecommon.messaging.bus import BusUnavailable
from codecommon.messaging.records import Records

_ATTEMPTS: Final = 10
_VOID_AFTER: Final = timedelta(minutes=10)
"""A host that shows nothing for this long after a thing was made has it no more. It is the lag that we grant a host."""

_WHILE_REBUILDING: Final = timedelta(seconds=5)


class Ownership:
    """``kcp``: where the records are rebuilt from. ``now``: the time of day, UTC."""

    def __init__(
        self,
        owners: Records,
        claims: Records,
        kcp: ProviderKcp,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._owners = owners
        self._claims = claims
        self._kcp = kcp
        self._now = now
        self._rebuilding = asyncio.Lock()

    # ---- records

    async def record_made(self, thing: Thing, obj: Resource[Any, Any], absent_at: datetime) -> Standing:
        """After the host has answered that it made ``thing`` for the object. ``OURS``: it is recorded by now.

        ``absent_at``: the host's time when it showed nothing there. A record that is older speaks of a thing that is gone, and
        one that follows from a status speaks of something that was not there yet. One that follows from a create claim is a
        guess, and gives way to an answer that names the new thing.
        """
        record = OwnerRecord((Holder.of(obj),), absent_at, made_at=absent_at)
        with _answered():
            for _ in range(_ATTEMPTS):
                if await self._owners.create(thing.key, record.encode()):
                    return Standing.OURS
                stored = await self._owners.get(thing.key)
                if stored is None:
                    continue
                found = OwnerRecord.decode(stored.value)
                outweighed = found.made_at is None or (found.from_claim and thing.is_told_by_the_host)
                if not outweighed and absent_at - found.at < _VOID_AFTER:
                    return found.standing(obj.metadata.uid)
                if await self._owners.update(thing.key, record.encode(), stored.revision):
                    return Standing.OURS
        raise _contended()

    async def require_standing(
        self, thing: Thing, obj: Resource[Any, Any], made_at: datetime | None = None
    ) -> Standing:
        """Who made ``thing``, where status or the create claim says that the object did. It is recorded if nobody else is.

        ``made_at``: the time in the create claim, if the host shows the thing and the claim is why it counts. Where records
        may be missing, they are rebuilt first. So this is what a deletion asks, and what a claim is held to.
        """
        record = OwnerRecord((Holder.of(obj),), made_at or self._now(), made_at=made_at, from_claim=made_at is not None)
        with _answered():
            for _ in range(_ATTEMPTS):
                found = await self._find_for_good(thing)
                if found is not None:
                    return found.standing(obj.metadata.uid)
                if await self._owners.create(thing.key, record.encode()):
                    return Standing.OURS
        raise _contended()

    async def confirm(self, thing: Thing, obj: Resource[Any, Any]) -> bool:
        """Whether ``status.origin`` may go on saying that the object made ``thing``. False: another object made it.

        A record that is missing is added, unless a rebuild is still to come. Nothing is deleted on this answer.
        """
        with _answered():
            found = await self._find(thing)
            if (found is None or found.from_status) and not await is_rebuilt(self._owners):
                # A rebuild that was cut short may have recorded one of several.
                return True
            if found is None:
                record = OwnerRecord((Holder.of(obj),), self._now())
                await self._owners.create(thing.key, record.encode())
                found = await self._find(thing)
        return found is None or found.standing(obj.metadata.uid) is not Standing.ANOTHERS

    async def is_contradicted(self, thing: Thing, obj: Resource[Any, Any]) -> bool:
        """Whether there is a record, and it does not say that the object alone made ``thing``.

        Where records may be missing, they are rebuilt first.
        """
        with _answered():
            found = await self._find_for_good(thing)
        return found is not None and found.standing(obj.metadata.uid) is not Standing.OURS

    async def is_anothers(self, thing: Thing, uid: str) -> bool:
        """Whether a record says that another object made ``thing`` than the one with that uid."""
        with _answered():
            found = await self._find(thing)
        return found is not None and found.standing(uid) is Standing.ANOTHERS

    async def made_at(self, thing: Thing, obj: Resource[Any, Any]) -> datetime | None:
        """When the object made ``thing``, by the host's time before it did. None: it did not, or that is not known."""
        with _answered():
            found = await self._find(thing)
        ours = found is not None and found.standing(obj.metadata.uid) is Standing.OURS
        return found.made_at if found is not None and ours else None

    async def forget(self, thing: Thing, obj: Resource[Any, Any]) -> None:
        """The object has deleted ``thing`` or lets go of it. Another's record stays."""
        uid = obj.metadata.uid
        with _answered():
            for _ in range(_ATTEMPTS):
                stored = await self._owners.get(thing.key)
                if stored is None:
                    return
                found = OwnerRecord.decode(stored.value)
                rest = found.left_by(uid)
                if rest == found:
                    return
                if rest is None:
                    await self._owners.remove(thing.key, stored.revision)
                    return
                if await self._owners.update(thing.key, rest.encode(), stored.revision):
                    return
        raise _contended()

    async def _find(self, thing: Thing) -> OwnerRecord | None:
        stored = await self._owners.get(thing.key)
        return OwnerRecord.decode(stored.value) if stored is not None else None

    async def _find_for_good(self, thing: Thing) -> OwnerRecord | None:
        found = await self._find(thing)
        if (found is None or found.from_status) and not await is_rebuilt(self._owners):
            # What one status says counts only once all others were asked.
            await self._rebuild()
            found = await self._find(thing)
        return found

    async def _rebuild(self) -> None:
        if self._rebuilding.locked():
            # It may take minutes, and whoever waits for it holds a slot.
            raise Retryable(
                Reason.OWNERSHIP_UNKNOWN,
                "the records of who made what were lost and are being rebuilt",
                after=_WHILE_REBUILDING,
            )
        async with self._rebuilding:
            if not await is_rebuilt(self._owners):
                await rebuild(self._kcp, self._owners, self._now)

    # ---- create claims

    async def claim_of(self, uid: str) -> Claim | None:
        """The create claim of the object with that uid. None: it has none, or it is older than NATS keeps it."""
        with _answered():
            stored = await self._claims.get(uid)
        if stored is None:
            return None
        found = json.loads(stored.value)
        return Claim(datetime.fromisoformat(found["at"]), found["key"])

    async def store_claim(self, obj: Resource[Any, Any], claim: Claim) -> None:
        with _answered():
            stored = json.dumps({"at": claim.at.isoformat(), "key": claim.key})
            await self._claims.put(obj.metadata.uid, stored.encode())

    async def withdraw_claim(self, obj: Resource[Any, Any]) -> None:
        with _answered():
            stored = await self._claims.get(obj.metadata.uid)
            if stored is not None:
                await self._claims.remove(obj.metadata.uid, stored.revision)


def origin_by(standing: Standing) -> Origin:
    """What ``status.origin`` says of a thing that status did not name before."""
    return "Created" if standing is Standing.OURS else "Adopted"


class OwnershipDisputed(Terminal):
    """Several objects say that they made what this one is to delete. ``thing``: as in "the repository"."""

    def __init__(self, thing: str) -> None:
        super().__init__(
            Reason.OWNERSHIP_DISPUTED,
            f"several objects say that they made {thing}, and the record of who did was lost, so none of them deletes it; "
            f"set spec.deletionPolicy to Delete to delete {thing} on the host all the same, or to Orphan to let go of this "
            f"object and leave {thing}",
        )


def require_undisputed(standing: Standing, thing: str) -> None:
    """Before something is deleted on the host because the object made it. Raises ``OwnershipDisputed``."""
    if standing is Standing.DISPUTED:
        raise OwnershipDisputed(thing)


def _contended() -> Retryable:
    return Retryable(Reason.OWNERSHIP_UNKNOWN, "the record of who made it is being written by others; trying again")


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except BusUnavailable:
        raise Retryable(
            Reason.OWNERSHIP_UNKNOWN, "NATS does not answer who made the thing on the host; trying again"
        ) from None
