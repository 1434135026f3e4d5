"""What to do about one deploy key. Pure: what the host shows in, a plan out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from codecommon.api import go_provider
from codecommon.api.access import DeployKey
from codecommon.api.meta import Condition
from codecommon.api.origin import UNRECORDED, Origin, is_recorded
from codecommon.api.reasons import ConditionType, Reason
from codecommon.controller.conditions import condition
from codecommon.controller.create_claim import is_under_claim
from codecommon.githost.protocol import HostKey

CONDITIONS: Final = frozenset({ConditionType.KEY_REPLACING, ConditionType.SETTINGS_DIFFER})

REPLACING: Final = condition(
    ConditionType.KEY_REPLACING,
    "True",
    Reason.RECREATING,
    "the key was removed to be registered again with its new title or access",
)


@dataclass(frozen=True, slots=True)
class Wanted:
    title: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """``registered``: the key on the host with the wanted material and settings. None: register one as ``wanted`` says.

    ``in_the_way``: a key that must be removed before, because a host takes the same material only once.
    ``superseded``: the id of this object's key of other material, which is removed once the new one is registered.
    ``differing``: settings that are left as found.
    """

    registered: HostKey | None
    wanted: Wanted
    origin: Origin
    in_the_way: HostKey | None = None
    superseded: str | None = None
    differing: tuple[str, ...] = ()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return (left_as_found(*self.differing),) if self.differing else ()


def left_as_found(*settings: str) -> Condition:
    return condition(
        ConditionType.SETTINGS_DIFFER, "True", Reason.LEFT_AS_FOUND, "left as found on the host: " + ", ".join(settings)
    )


def decide(key: DeployKey, material: str, keys: tuple[HostKey, ...], *, generated: bool) -> Plan:
    """``material``: the public key to be registered. ``generated``: nobody but this object can have it."""
    same = next((k for k in keys if k.key == material), None)
    recorded = _recorded(key, keys)
    wanted = _wanted(key, same or recorded)
    superseded = _superseded(key, material, recorded)
    if same is None:
        return Plan(None, wanted, "Created", superseded=superseded)
    origin = origin_of(key, same, generated=generated)
    differing = _differing(wanted, same)
    if _is_as_found(key):
        return Plan(same, wanted, origin, superseded=superseded, differing=differing)
    if not differing or _is_settled(key, same):
        return Plan(same, wanted, origin, superseded=superseded)
    return Plan(None, wanted, "Created", in_the_way=same, superseded=superseded)


def leave_anothers(plan: Plan) -> Plan:
    """The plan where the key that is in the way is not this object's alone, as a record says: it is left as found."""
    found = plan.in_the_way
    if found is None:
        return plan
    differing = _differing(plan.wanted, found)
    return Plan(found, plan.wanted, "Adopted", superseded=plan.superseded, differing=differing)


def find_other_material(key: DeployKey, given: str | None, keys: tuple[HostKey, ...]) -> HostKey | None:
    """The recorded key, where it has other material than spec wants and is left as found.

    ``given``: the public key in spec. None: there is no such key on the host, and ``decide`` decides.
    """
    recorded = _recorded(key, keys)
    if recorded is None or not _is_as_found(key) or any(k.key == given for k in keys):
        return None
    if given is None and key.status.secret_ref is not None:
        # The recorded key is of a generated pair, and spec wants a generated pair.
        return None
    return recorded


def origin_of(key: DeployKey, seen: HostKey, *, generated: bool) -> Origin:
    """Who made ``seen``: what status records for its id, else what the create claim says."""
    status = key.status
    if status.key_id == seen.id:
        if generated and not is_recorded(status.origin):
            return "Created"
        created = key.metadata.creation_timestamp
        return go_provider.resolve_origin(status.origin, object_created_at=created, made_at=seen.created_at)
    ours = generated or seen.id == status.previous_key_id or is_under_claim(key, seen.created_at)
    return "Created" if ours else "Adopted"


def claimed_key(key: DeployKey) -> str | None:
    """The public key that the create claim is for: the one registered last, whether or not the host answered."""
    return key.claim.key if key.claim is not None else None


def find_unrecorded(key: DeployKey, material: str, keys: tuple[HostKey, ...]) -> HostKey | None:
    """The key that an unfinished pass registered, if another one is wanted by now."""
    lost = claimed_key(key)
    if lost is None or lost == material:
        return None
    recorded = (key.status.key_id, key.status.previous_key_id)
    return next((k for k in keys if k.key == lost and k.id not in recorded and is_under_claim(key, k.created_at)), None)


def on_record(key: DeployKey) -> dict[str, Any]:
    """What an interruption records of an object that the Go provider left: a later edit must not be taken for part of the
    baseline. Of any other object it must record nothing: a later write may know more."""
    return {} if key.status.origin != UNRECORDED else {"baselineGeneration": key.status.baseline_generation}


def status_of(key: DeployKey, seen: HostKey, origin: Origin, host: str) -> dict[str, Any]:
    """Status fields by wire name."""
    return {
        "keyID": seen.id,
        "title": seen.title,
        "readOnly": seen.read_only,
        "origin": origin,
        "host": host,
        "baselineGeneration": key.status.baseline_generation,
    }


def _recorded(key: DeployKey, keys: tuple[HostKey, ...]) -> HostKey | None:
    """The key whose id is in status."""
    return next((k for k in keys if k.id == key.status.key_id), None)


def _superseded(key: DeployKey, material: str, recorded: HostKey | None) -> str | None:
    """The id in status, if it is that of a key which we made of other material."""
    if recorded is not None:
        ours = recorded.key != material and origin_of(key, recorded, generated=False) == "Created"
    else:
        # Removed on the host, or not shown yet. Only the create claim tells its material then.
        ours = key.status.origin == "Created" and claimed_key(key) not in (None, material)
    return key.status.key_id if ours else None


def _is_as_found(key: DeployKey) -> bool:
    """Whether spec is still at the baseline, so that nothing on the host is changed for it."""
    return key.status.baseline_generation == key.metadata.generation


def _is_settled(key: DeployKey, seen: HostKey) -> bool:
    """Whether the host writes what was asked for in its own way: the settings of a key never change on the host."""
    status = key.status
    return key.ready and (status.key_id, status.title, status.read_only) == (seen.id, seen.title, seen.read_only)


def _wanted(key: DeployKey, like: HostKey | None) -> Wanted:
    """What spec names. What it leaves out stays as it is on the host, or was when the key was last seen there."""
    title, read_only = key.spec.title or None, key.spec.read_only
    if title is None:
        # An untitled key on the host is left untitled.
        title = like.title if like is not None else key.status.title or key.name
    if read_only is None:
        read_only = like.read_only if like is not None else key.status.read_only
    return Wanted(title, True if read_only is None else read_only)


def _differing(wanted: Wanted, seen: HostKey) -> tuple[str, ...]:
    found: list[str] = []
    if wanted.title != seen.title:
        found.append("title")
    if wanted.read_only != seen.read_only:
        found.append("readOnly")
    return tuple(found)
