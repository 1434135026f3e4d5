"""JSON-RPC batches. Clients of revision 2025-03-26 may send them, and its servers must take them. No other revision has any.

A request without a version header counts as that revision, which has no such header.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Send

MOST_MESSAGES: Final = 10
MOST_BYTES: Final = 64 << 10
_REVISION: Final = "2025-03-26"

Answer = Callable[[bytes, Send], Awaitable[None]]
"""Answers the request with this body."""


class BatchTooLong(Exception):
    """The batch is over the bounds. The message says so to the client."""


def messages(headers: Headers, body: bytes) -> Sequence[bytes] | None:
    """The messages of a batch. None: the request is none, or one that the revision or JSON does not allow.

    Raises ``BatchTooLong``.
    """
    if not body[:16].lstrip().startswith(b"[") or headers.get("mcp-protocol-version", _REVISION) != _REVISION:
        return None
    too_long = f"A batch has at most {MOST_MESSAGES} messages and {MOST_BYTES} bytes. Send them one by one."
    if len(body) > MOST_BYTES:
        raise BatchTooLong(too_long)
    try:
        found: list[Any] = orjson.loads(body)
        batch = [orjson.dumps(message) for message in found]
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        # Fewer levels can be written than read.
        return None
    if len(batch) > MOST_MESSAGES:
        raise BatchTooLong(too_long)
    return batch or None


async def answered(batch: Sequence[bytes], answer: Answer) -> Response:
    """The answers to the messages, as one JSON array in their order. All run at the same time, each as a request of its own."""
    answers = [_Kept() for _ in batch]
    async with asyncio.TaskGroup() as tasks:
        for message, kept in zip(batch, answers, strict=True):
            tasks.create_task(_run(answer, message, kept))
    bodies = [kept.body for kept in answers if kept.body]
    if not bodies:
        return Response(status_code=max(kept.status for kept in answers))
    return Response(
        b"[%b]" % b",".join(bodies), min(kept.status for kept in answers if kept.body), media_type="application/json"
    )


async def _run(answer: Answer, message: bytes, kept: _Kept) -> None:
    await answer(message, kept.send)


class _Kept:
    """An answer that is kept instead of sent."""

    def __init__(self) -> None:
        self.status = 500
        self.body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")
