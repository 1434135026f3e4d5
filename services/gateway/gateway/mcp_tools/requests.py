"""What commit_files, checkout_repository, build_status and rebuild share: a request object that is stored, joined and waited for.

Their callers take every answer that is no error for done. So a request that has not finished is answered with an error that names
it. Whoever asks again, by that name or with the same arguments, gets the same request.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
import orjson

from codecommon.api.kinds import REPOSITORIES, KindSpec
from codecommon.api.reasons import ConditionType
from codecommon.api.request import PENDING, SUCCEEDED, is_finished
from codecommon.kcp.client import Conflict, JsonObject, KcpError, NotFound
from gateway.mcp_tools.shared import Missing, named, quoted, text
from gateway.mcp_tools.tool import Call, Handler, ToolError
from gateway.mcp_tools.wait import until
from gateway.mcp_tools.writing import Pace, Write, create, find
from gateway.time_limits import LAST_WRITE, WAIT

REPOSITORY_REF: Final = (
    "Name of the Repository object in the workspace (see list_repositories), not of the one on the host."
)
NAME: Final = (
    "Name of a request that an earlier call has begun. This call then begins none: it waits for that one and answers with its "
    "result."
)

_LONGEST_NAME: Final = 253
# The newest 20 commits of a Repository are kept, and checkouts and build statuses go. So few names are taken.
_MOST_TURNS: Final = 32
_MOST_ATTEMPTS: Final = 3
DELETION_SECONDS: Final = 1.0
_UNREAD: Final = timedelta(seconds=20)
"""For so long after its end a request that nobody has read is the answer to the same request."""
_LEAST_SECONDS: Final = 3.0
"""For which a call writes, however long its request took to arrive."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request object to be stored.

    Attributes:
        tool: The tool that was called.
        word: What it is, as a part of its name.
        content: Hexadecimal digits of a hash of what it asks for.
        goes: Whether it is deleted once its answer was read. So one that has finished and is there was not read.
        once: Whether what has succeeded answers the same request for as long as it is there. The provider deletes it by its age.
        moves: Whether what it reads may change. One that has begun to read may not know the newest.
    """

    kind: KindSpec[Any]
    tool: str
    word: str
    repository: str
    content: str
    spec: JsonObject
    labels: Mapping[str, str]
    owners: tuple[JsonObject, ...] = ()
    goes: bool = True
    once: bool = False
    moves: bool = False

    def name(self, turn: int) -> str:
        """The name of the request that is the ``turn``-th of its kind. The same request has the same names, in any replica."""
        told = orjson.dumps([self.repository, self.spec, turn], option=orjson.OPT_SORT_KEYS)
        suffix = f"-{self.word}-{self.content[:12]}-{hashlib.sha256(told).hexdigest()[:8]}"
        return self.repository[: _LONGEST_NAME - len(suffix)].rstrip("-.") + suffix


def request_handler(write: Write, patience: float) -> Handler:
    """As ``writing.handler``, but the call begins when its request begins to arrive: with 16 MiB that is a while before."""

    async def handle(call: Call) -> dict[str, Any]:
        now = asyncio.get_running_loop().time()
        began = now if call.arrived is None else call.arrived
        # Where the caller has lost its patience, the same call again finds what this one has stored.
        write_until = max(began + LAST_WRITE, now + _LEAST_SECONDS)
        return await write(call, Pace(began + patience, write_until))

    return handle


async def repository_of(call: Call) -> JsonObject:
    """The Repository object that ``repositoryRef`` names. Raises ``ToolError``."""
    name = call.arguments["repositoryRef"]
    try:
        raw = await call.objects.get(REPOSITORIES.resource, name)
    except NotFound:
        raise Missing(
            f"There is no Repository object {quoted(name)} in this workspace. repositoryRef is the name of the object, not of "
            "the repository on the git host; list_repositories shows the names."
        ) from None
    if raw["metadata"].get("deletionTimestamp"):
        raise ToolError(f"The Repository object {named(name)} is being deleted. Nothing was done.")
    return raw


async def store(call: Call, wanted: Wanted, pace: Pace) -> JsonObject:
    """The request as stored: a new one, or the same one that runs or was not read. With ``plan`` nothing is stored."""
    planned = bool(call.arguments.get("plan"))
    name = wanted.name(0)
    try:
        async with asyncio.timeout_at(pace.write_until):
            for turn in range(1, _MOST_TURNS + 1):
                try:
                    return await create(
                        call,
                        wanted.kind,
                        name,
                        wanted.spec,
                        dry_run=planned,
                        labels=wanted.labels,
                        owners=wanted.owners,
                    )
                except Conflict:
                    found = await find(call.objects, wanted.kind, name)
                    if found is not None and _is_joined(found, wanted):
                        return found
                # What is finished was asked for before. To ask for it again is a new request.
                name = wanted.name(turn if turn < _MOST_TURNS - 1 else uuid.uuid4().int)
    except (TimeoutError, aiohttp.ClientError):
        raise ToolError(
            f"kcp did not answer in time, so it is not known whether {wanted.kind.kind} {name} was stored. Call {wanted.tool} "
            "again with the same arguments: if it was stored and still runs, the call joins it."
        ) from None
    raise ToolError("kcp takes no name for this request. Try again in some seconds.")


def _is_joined(found: JsonObject, wanted: Wanted) -> bool:
    spec, status = found["spec"], found.get("status") or {}
    if found["metadata"].get("deletionTimestamp") or any(
        spec.get(name) != value for name, value in wanted.spec.items()
    ):
        return False
    if wanted.once and is_finished(status) and status["phase"] == SUCCEEDED:
        return True
    if wanted.moves and status.get("phase") not in (None, PENDING) and not _outlived_its_call(found, status):
        return False
    # Otherwise a caller that never asks by name would begin what takes longer than a call again and again.
    return not is_finished(status) or (wanted.goes and _is_recent(status))


def _outlived_its_call(found: JsonObject, status: JsonObject) -> bool:
    """Whether the call that stored it was answered before it finished. Then the same call is likely to be that caller's."""
    try:
        created = datetime.fromisoformat(found["metadata"]["creationTimestamp"])
        completed = status.get("completedAt")
        until = datetime.fromisoformat(completed) if completed else datetime.now(UTC)
        return until - created >= timedelta(seconds=WAIT)
    except (KeyError, TypeError, ValueError):
        return False


def _is_recent(status: JsonObject) -> bool:
    try:
        completed_at = datetime.fromisoformat(status.get("completedAt") or "")
        return datetime.now(UTC) - completed_at < _UNREAD
    except (TypeError, ValueError):
        # Somebody else has written it.
        return False


async def by_name(call: Call, kind: KindSpec[Any], tool: str) -> JsonObject:
    """The request that the argument ``name`` names. Raises ``ToolError`` if there is none, or if it is of another Repository."""
    name = call.arguments["name"]
    try:
        found = await call.objects.get(kind.resource, name)
    except NotFound:
        raise Missing(
            f"There is no {kind.kind} {quoted(name)} in this workspace. It may be finished and gone by now. Call {tool} without "
            "name to begin a new one."
        ) from None
    if found["spec"].get("repositoryRef") != call.arguments["repositoryRef"]:
        raise ToolError(
            f"The {kind.kind} {named(name)} is of the Repository object {quoted(found['spec'].get('repositoryRef'))}, not of "
            "that in repositoryRef. Correct this and call again."
        )
    return found


async def finished(
    call: Call, kind: KindSpec[Any], tool: str, raw: JsonObject, pace: Pace, *, goes: bool
) -> JsonObject | None:
    """The request once it has succeeded. None: somebody has deleted it. Raises ``ToolError`` if it failed or goes on.

    ``goes``: as of ``Wanted``.
    """
    name, uid = raw["metadata"]["name"], raw["metadata"]["uid"]

    async def look() -> JsonObject | None:
        found = await find(call.objects, kind, name)
        return found if found is not None and found["metadata"]["uid"] == uid else None

    found, told = raw, ""
    if not is_finished(raw.get("status") or {}):
        try:
            left = pace.wait_until - asyncio.get_running_loop().time()
            # A first look that hangs is given up, too.
            async with asyncio.timeout(max(left, 0.0) + 1):
                seen = await until(
                    look, lambda seen: seen is None or is_finished(seen.get("status") or {}), max(left, 0.0)
                )
            if seen is None:
                return None
            found = seen
        except (KcpError, aiohttp.ClientError, TimeoutError):
            told = " kcp did not say how far it is."
    if is_finished(found.get("status") or {}):
        if found["status"]["phase"] == SUCCEEDED:
            return found
        if goes:
            await delete_answered(call, kind, found)
        raise ToolError(f"{kind.kind} {name} failed.{said(found)} Nothing more is done for it.")
    raise ToolError(
        f"{kind.kind} {name} has not finished.{told or said(found)} It is not known yet what comes of it, and the provider goes "
        f"on. Call {tool} again with the same repositoryRef and name: {name}. That call waits for it and answers with its result."
    )


def said(raw: JsonObject) -> str:
    """A sentence with what the provider says of a request that has not succeeded; empty: it says nothing."""
    conditions: list[JsonObject] = (raw.get("status") or {}).get("conditions") or []
    for type_ in (ConditionType.STALLED, ConditionType.RECONCILING, ConditionType.READY):
        for condition in conditions:
            if condition.get("type") == type_ and not (type_ == "Ready" and condition.get("status") == "True"):
                reason, message = text(condition.get("reason")) or "", quoted(condition.get("message"))
                return f" The provider says {reason}: {message}." if message else f" The provider says {reason}."
    return ""


async def result_of(call: Call, wanted: Wanted, pace: Pace) -> JsonObject:
    """The request that ``wanted`` or the argument ``name`` means, once it has succeeded. Raises ``ToolError`` as ``finished``."""
    done, _ = await result_and_age_of(call, wanted, pace)
    return done


async def result_and_age_of(call: Call, wanted: Wanted, pace: Pace) -> tuple[JsonObject, bool]:
    """As ``result_of``, and whether it had finished before this call."""
    for _ in range(_MOST_ATTEMPTS):
        named_one = call.arguments.get("name")
        asked = await (by_name(call, wanted.kind, wanted.tool) if named_one else store(call, wanted, pace))
        done = await finished(call, wanted.kind, wanted.tool, asked, pace, goes=wanted.goes)
        if done is not None:
            return done, is_finished(asked.get("status") or {})
        # Somebody else had joined it, got the answer first and deleted it.
    raise ToolError(
        f"The {wanted.kind.kind} was deleted before its result was read. Call {wanted.tool} again without name."
    )


async def delete_answered(call: Call, kind: KindSpec[Any], raw: JsonObject) -> None:
    """Delete a request whose answer nobody will ask for again. The provider deletes it later where this fails."""
    metadata = raw["metadata"]
    with suppress(KcpError, aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(DELETION_SECONDS):
            await call.objects.delete(kind.resource, metadata["name"], uid=metadata["uid"])


# --- answers


class Room:
    """What is left of the longest answer that every caller reads: 3.5 MiB.

    app-studio reads 4 MiB of the hub's answer. In that a result stands twice, as text and as structured content, and the hub
    writes ``<``, ``>`` and ``&`` with six bytes each.
    """

    def __init__(self, most: int = 3584 << 10) -> None:
        # Everything else in the answer: what JSON-RPC, the event and the short fields take.
        self._left = most - (16 << 10)

    def take(self, value: Any) -> bool:
        """Whether there was room for the value. If so it is taken."""
        size = answer_bytes(value)
        if size > self._left:
            return False
        self._left -= size
        return True


_COMMA: Final = 2


def answer_bytes(value: Any) -> int:
    """Bytes that a value of a result takes in the hub's answer."""
    inner = orjson.dumps(value)
    escaped = 5 * sum(map(inner.count, (b"<", b">", b"&"))) + 3 * sum(
        map(inner.count, (b"\xe2\x80\xa8", b"\xe2\x80\xa9"))
    )
    # The text is JSON in a JSON string.
    return 2 * (len(inner) + escaped) + inner.count(b'"') + inner.count(b"\\") + _COMMA
