"""What to do about one deploy key. Pure: observations in, a decision out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from codecommon.api.access import DeployKey
from codecommon.api.annotations import CLAIMED_KEY
from codecommon.api.meta import Condition
from codecommon.api.reasons import ConditionType, Reason
from codecommon.api.repository import Origin
from codecommon.controller.conditions import condition
from codecommon.controller.create_claim import claimed
from codecommon.githost.protocol import HostKey

CONDITIONS: Final = frozenset({ConditionType.KEY_REPLACING, ConditionType.SETTINGS_DIFFER})


@dataclass(frozen=True, slots=True)
class Wanted:
    title: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """``keep``: the key on the host with the wanted material and settings; None: make one as ``wanted`` says.

    ``first``: a key that must go before, because a host takes the same material only once. ``superseded``: the id of a key of
    this object with other material, which goes when the new one is in. ``differing``: settings that are left as found.
    """

    keep: HostKey | None
    wanted: Wanted
    origin: Origin
    first: HostKey | None = None
    superseded: str | None = None
    differing: tuple[str, ...] = ()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return (left_as_found(*self.differing),) if self.differing else ()


def left_as_found(*settings: str) -> Condition:
    return condition(
        ConditionType.SETTINGS_DIFFER, "True", Reason.LEFT_AS_FOUND, "left as found on the host: " + ", ".join(settings)
    )


REPLACING: Final = condition(
    ConditionType.KEY_REPLACING,
    "True",
    Reason.RECREATING,
    "the key was removed to be registered again with its new title or access",
)


def decide(key: DeployKey, material: str, keys: tuple[HostKey, ...], *, generated: bool) -> Plan:
    """``material``: what is to be registered. ``generated``: nobody but this object can have it."""
    same = next((k for k in keys if k.key == material), None)
    bound = _bound(key, keys)
    wanted = _wanted(key, same or bound)
    superseded = _superseded(key, material, bound)
    if same is None:
        return Plan(None, wanted, "Created", superseded=superseded)
    origin = origin_of(key, same, generated=generated)
    differing = _differing(wanted, same)
    if as_found(key):
        return Plan(same, wanted, origin, superseded=superseded, differing=differing)
    if not differing or _settled(key, same):
        return Plan(same, wanted, origin, superseded=superseded)
    return Plan(None, wanted, "Created", first=same, superseded=superseded)


def never_exchanged(key: DeployKey, given: str | None, keys: tuple[HostKey, ...]) -> HostKey | None:
    """The key that today's provider left, where spec wants other material by an edit that was accepted and never sent.

    ``given``: the key in spec. None: there is no such edit, and ``decide`` decides.
    """
    bound = _bound(key, keys)
    if bound is None or not as_found(key) or any(k.key == given for k in keys):
        return None
    if given is None and key.status.secret_ref is not None:
        # Generated then and now.
        return None
    return bound


def _bound(key: DeployKey, keys: tuple[HostKey, ...]) -> HostKey | None:
    return next((k for k in keys if k.id == key.status.key_id), None)


def _superseded(key: DeployKey, material: str, bound: HostKey | None) -> str | None:
    """The id in status if it is that of a key which we made of other material."""
    if bound is not None:
        ours = bound.key != material and origin_of(key, bound, generated=False) == "Created"
    else:
        # Removed on the host, or not shown yet. Then only what was last announced tells its material.
        ours = key.status.origin == "Created" and announced(key) not in (None, material)
    return key.status.key_id if ours else None


def _settled(key: DeployKey, seen: HostKey) -> bool:
    """Whether a difference is the host's own way of writing what was asked for: a key is never changed in its life there."""
    status = key.status
    return key.ready and (status.key_id, status.title, status.read_only) == (seen.id, seen.title, seen.read_only)


def _wanted(key: DeployKey, like: HostKey | None) -> Wanted:
    """What spec names; what it leaves out stays as it is on the host, or was when the key was last seen there."""
    title, read_only = key.spec.title or None, key.spec.read_only
    if title is None:
        # An untitled key on the host is left untitled.
        title = like.title if like is not None else key.status.title or key.name
    if read_only is None:
        read_only = like.read_only if like is not None else key.status.read_only
    return Wanted(title, True if read_only is None else read_only)


def origin_of(key: DeployKey, seen: HostKey, *, generated: bool) -> Origin:
    """Who made it: what status records of this id, of which only ours is ever replaced by another; else the claim. Today's
    provider recorded nothing, and what is not older than the object counts as made by it."""
    if key.status.key_id == seen.id:
        if key.status.origin is not None:
            return key.status.origin
        return "Created" if generated or seen.created_at >= key.metadata.creation_timestamp else "Adopted"
    ours = generated or seen.id == key.status.previous_key_id or claimed(key, seen.created_at)
    return "Created" if ours else "Adopted"


def as_found(key: DeployKey) -> bool:
    """Whether spec still is what it was when an object of today's provider was first seen; then nothing is changed for it."""
    return baseline_after(key) == key.metadata.generation


def baseline_after(key: DeployKey) -> int | None:
    """The generation whose settings count as found: the one at which an object of today's provider was first seen."""
    recorded = key.status.baseline_generation
    return key.metadata.generation if recorded is None and taken_over(key) else recorded


def announced(key: DeployKey) -> str | None:
    """The public key of the latest registration, answered or not."""
    return key.metadata.annotations.get(CLAIMED_KEY)


def unrecorded(key: DeployKey, material: str, keys: tuple[HostKey, ...]) -> HostKey | None:
    """The key that a pass nobody finished registered, if it is not the wanted one any more."""
    lost = announced(key)
    if lost is None or lost == material:
        return None
    recorded = (key.status.key_id, key.status.previous_key_id)
    return next((k for k in keys if k.key == lost and k.id not in recorded and claimed(key, k.created_at)), None)


def taken_over(key: DeployKey) -> bool:
    """Whether today's provider left it: an id, and no record of who made the key."""
    return key.status.key_id is not None and key.status.origin is None


def taking_over(key: DeployKey) -> dict[str, Any]:
    """What an interrupted pass records of an object of today's provider, so that a later edit is not taken for found."""
    return {"baselineGeneration": baseline_after(key)} if taken_over(key) else {}


def status_of(key: DeployKey, seen: HostKey, origin: Origin, host: str) -> dict[str, Any]:
    """Status fields by wire name."""
    return {
        "keyID": seen.id,
        "title": seen.title,
        "readOnly": seen.read_only,
        "origin": origin,
        "host": host,
        "baselineGeneration": baseline_after(key),
    }


def _differing(wanted: Wanted, seen: HostKey) -> tuple[str, ...]:
    found: list[str] = []
    if wanted.title != seen.title:
        found.append("title")
    if wanted.read_only != seen.read_only:
        found.append("readOnly")
    return tuple(found)
