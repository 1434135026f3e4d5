"""Other objects of the workspace that may have made the repository an object is about to take, and not recorded it yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from codecommon.api.repository import Repository
from codecommon.controller.context import ReconcileContext
from codecommon.controller.owner_record import Thing
from codecommon.githost.protocol import HostRepository
from repository_svc import identity


@dataclass(frozen=True, slots=True)
class Rival:
    """An object with a create claim that fits the repository. ``claimed_at``: the time in that."""

    uid: str
    name: str
    deleting: bool
    claimed_at: datetime


async def find_rivals(
    ctx: ReconcileContext[Repository],
    seen: HostRepository,
    key: str,
    check: Callable[[Repository], None] = lambda other: None,
) -> list[Rival]:
    """Those of ``seen``. ``key``: the ``claim_key`` of the name that it was found under.

    ``check`` is called for every other object of the workspace. Raises what it raises.
    """

    def keep(other: Repository) -> tuple[str, str, bool] | None:
        check(other)
        held = ctx.kind.finalizer in other.metadata.finalizers
        if not (held and identity.may_be_making(other, seen)):
            return None
        return other.metadata.uid, other.name, other.deleting

    rivals: list[Rival] = []
    for uid, name, deleting in await ctx.others(keep):
        claim = await ctx.ownership.claim_of(uid)
        if claim is not None and identity.is_claim_for(claim, seen, key):
            rivals.append(Rival(uid, name, deleting, claim.at))
    return rivals


async def require_no_rival(ctx: ReconcileContext[Repository], rivals: list[Rival], made: Thing) -> None:
    """Raises ``Retryable`` (``DuplicateRepository``) while one of ``rivals`` may still turn out to be the maker."""
    for rival in rivals:
        if not await ctx.ownership.is_anothers(made, rival.uid):
            raise identity.being_made(rival.name)
