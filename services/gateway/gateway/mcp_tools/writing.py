"""What the write tools share: who asked for an object, dry runs, waiting with a bound, plain words."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from codecommon.api.annotations import REQUESTED_BY, REQUESTED_WITH
from codecommon.api.group import API_VERSION
from codecommon.api.kinds import CONNECTIONS, KindSpec
from codecommon.api.reasons import ConditionType, Reason
from codecommon.kcp.client import JsonObject, KcpError, NotFound, Objects
from gateway.mcp_tools.tool import Call, Handler
from gateway.plain_text import one_line
from gateway.time_limits import LAST_WRITE, RESULT

PATIENCE_SECONDS: Final = RESULT
_WRITES_END: Final = LAST_WRITE

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 1.0

_LONGEST_TEXT: Final = 500
_LONGEST_NAME: Final = 253


@dataclass(frozen=True, slots=True)
class Pace:
    """Times of the event loop's clock: until when a call waits for results, and until when it still writes."""

    wait_until: float
    write_until: float


Write = Callable[[Call, Pace], Awaitable[dict[str, Any]]]


def handler(write: Write, patience: float) -> Handler:
    """The handler of a write tool. Its caller bounds the whole call, as of any tool (``time_limits.CALL``)."""

    async def handle(call: Call) -> dict[str, Any]:
        now = asyncio.get_running_loop().time()
        return await write(call, Pace(now + patience, now + _WRITES_END))

    return handle


# ---- words


def plain(text: str, most: int = _LONGEST_TEXT) -> str:
    """Text of a tenant, a client or a host, as ``one_line``."""
    return one_line(text, most)


def refusal(error: KcpError | aiohttp.ClientError | TimeoutError, *, planned: bool) -> str:
    """Why one of several objects was not made."""
    if isinstance(error, KcpError):
        return f"kcp refused it ({error.status} {plain(error.reason, 60)}): {plain(error.message)}"
    if planned:
        return "kcp did not answer, so there is no plan for it. Nothing was changed."
    return "kcp did not answer, so it is not known whether it was stored"


async def full_name(objects: Objects, spec: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    """``owner/name`` of a repository on the host. ``name`` alone if neither the object nor its Connection can tell the owner."""
    owner: str = status.get("owner") or spec.get("owner") or ""
    if not owner:
        try:
            connection = await objects.get(CONNECTIONS.resource, spec["connectionRef"])
            owner = connection["spec"]["owner"]
        except KcpError:
            pass
    name = plain(spec["name"], 100)
    return f"{plain(owner, 100)}/{name}" if owner else name


# ---- objects


def arguments_of(call: Call, *names: str) -> JsonObject:
    """Those of the arguments that were given."""
    return {name: call.arguments[name] for name in names if call.arguments.get(name) is not None}


def object_name(*parts: str) -> str:
    """A name that kcp admits for an object, made of parts that it may not admit."""
    name = re.sub(r"[^a-z0-9.]+", "-", "-".join(parts).lower())
    name = re.sub(r"\.[.-]+|-+\.", "-", name).strip("-.")
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 9].rstrip('-.')}-{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


async def create(
    call: Call,
    kind: KindSpec[Any],
    name: str,
    spec: JsonObject,
    *,
    dry_run: bool,
    labels: Mapping[str, str] | None = None,
    owners: Sequence[JsonObject] = (),
) -> JsonObject:
    """Create the object on behalf of the caller, and return it as stored. Raises what ``Objects.create`` raises."""
    user = plain(call.user, 200) or "service account through the aggregate"
    client = plain(call.client, 100) or "unknown client"
    metadata: JsonObject = {
        "name": name,
        "annotations": {REQUESTED_BY: f"{user} (unverified)", REQUESTED_WITH: f"{client} (unverified)"},
    }
    if labels:
        metadata["labels"] = dict(labels)
    if owners:
        metadata["ownerReferences"] = list(owners)
    body = {"apiVersion": API_VERSION, "kind": kind.kind, "metadata": metadata, "spec": spec}
    return await call.objects.create(kind.resource, body, dry_run=dry_run)


async def find(objects: Objects, kind: KindSpec[Any], name: str) -> JsonObject | None:
    try:
        return await objects.get(kind.resource, name)
    except NotFound:
        return None


# ---- results


async def result_of(call: Call, kind: KindSpec[Any], made: JsonObject, pace: Pace) -> dict[str, Any]:
    """The output for an object that was made: what came of it until ``pace.wait_until``, or what is pending."""
    name = made["metadata"]["name"]
    output = {"name": name, "kind": kind.kind, "created": True}
    raw, trouble = await _wait(call.objects, kind, made, pace, _is_settled)
    if trouble:
        return output | {"ready": False, "message": trouble}
    if raw is None:
        return output | {"ready": False, "message": f"The {kind.kind} was created, and somebody deleted it at once."}
    ready = _is_ready(raw)
    return output | {"ready": ready, "message": _state(kind, raw, ready=ready), **_where_it_is(raw)}


def _where_it_is(raw: JsonObject) -> dict[str, str]:
    """Where a browser finds a Repository, or who uses a DeployKey finds its private half."""
    status = raw.get("status") or {}
    secret = status.get("secretRef") or {}
    found = {
        "htmlURL": status.get("htmlURL"),
        "secretName": secret.get("name"),
        "secretNamespace": secret.get("namespace"),
    }
    return {field: plain(value) for field, value in found.items() if value}


async def gone(call: Call, kind: KindSpec[Any], deleted: JsonObject, pace: Pace) -> tuple[bool, str]:
    """Whether a deleted object is gone by ``pace.wait_until``, and in words what is pending if not."""

    def over(raw: JsonObject) -> bool:
        # The deletion is a new generation. What was said before it does not speak of the clean-up.
        return "deletionTimestamp" in raw["metadata"] and _is_current(raw) and _is_stalled(raw)

    raw, trouble = await _wait(call.objects, kind, deleted, pace, over)
    if trouble:
        return False, trouble
    if raw is None:
        return True, f"The {kind.kind} is gone."
    said = _said(raw) if _is_current(raw) else ""
    return False, f"The {kind.kind} is being deleted and not gone yet.{said}"


async def _wait(
    objects: Objects, kind: KindSpec[Any], raw: JsonObject, pace: Pace, over: Callable[[JsonObject], bool]
) -> tuple[JsonObject | None, str]:
    """The object once ``over`` says so, or as last seen; None: it is gone. And why it could not be looked at, or nothing.

    An object of that name with another uid is another object.
    """
    pause = _FIRST_PAUSE
    found: JsonObject | None = raw
    try:
        async with asyncio.timeout_at(pace.wait_until):
            while found is not None and not over(found):
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                found = await find(objects, kind, raw["metadata"]["name"])
                if found is not None and found["metadata"]["uid"] != raw["metadata"]["uid"]:
                    found = None
    except TimeoutError:
        pass
    except (KcpError, aiohttp.ClientError):
        # The write itself is done. That it cannot be watched must not look as if it had failed.
        return raw, "kcp stored the change. What came of it could not be read."
    return found, ""


def _is_settled(raw: JsonObject) -> bool:
    """Whether waiting on is of no use: it is ready, or somebody has to act."""
    if not _is_current(raw):
        return False
    ready = _condition(raw, ConditionType.READY)
    return _is_ready(raw) or _is_stalled(raw) or ready.get("reason") == Reason.INVITATION_PENDING


def _is_current(raw: JsonObject) -> bool:
    return (raw.get("status") or {}).get("observedGeneration") == raw["metadata"].get("generation")


def _is_ready(raw: JsonObject) -> bool:
    return _is_current(raw) and _condition(raw, ConditionType.READY).get("status") == "True"


def _is_stalled(raw: JsonObject) -> bool:
    return _condition(raw, ConditionType.STALLED).get("status") == "True"


def _condition(raw: JsonObject, type_: ConditionType) -> Mapping[str, Any]:
    conditions = (raw.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == type_), {})


def _said(raw: JsonObject) -> str:
    """A sentence with what the provider says of an object that is not as declared yet; empty: it says nothing."""
    for type_ in (ConditionType.STALLED, ConditionType.RECONCILING, ConditionType.READY):
        found = _condition(raw, type_)
        # A Ready that is True was said before the object was deleted or edited.
        if found and not (type_ is ConditionType.READY and found.get("status") == "True"):
            reason, message = plain(str(found.get("reason", "")), 100), plain(str(found.get("message", "")))
            return (
                f" The provider says: {reason}: {message.rstrip('.')}." if message else f" The provider says: {reason}."
            )
    return ""


def _state(kind: KindSpec[Any], raw: JsonObject, *, ready: bool) -> str:
    if ready:
        return f"The {kind.kind} is ready: the host is as declared."
    if _is_settled(raw):
        return f"The {kind.kind} is stored and not ready. Somebody has to act.{_said(raw)}"
    return f"The {kind.kind} is stored, and the provider is still working on it.{_said(raw)}"
