"""Reads newline-separated JSON. Errors quote nothing of a line: they name its length only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

from codecommon.kcp.client import JsonObject

MAX_LINE_BYTES: Final = 32 << 20
"""etcd stores up to 1.5 MB by default, and up to 8 MB if configured so. A longer line cannot be an object."""


class MalformedLine(Exception):
    """A line that is not a JSON object, or a body that ends within a line."""

    def __init__(self, what: str, length: int) -> None:
        super().__init__(f"{what} of {length} bytes")


class LineSplitter:
    """Cuts chunks into lines. ``pending``: the bytes of the line that is not complete yet."""

    def __init__(self, longest: int = MAX_LINE_BYTES) -> None:
        self._longest = longest
        self._parts: list[bytes] = []
        self.pending = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that ``chunk`` completes, without line ends. Raises ``MalformedLine`` for a line that is too long."""
        first, *rest = chunk.split(b"\n")
        self._keep(first)
        for part in rest:
            line = b"".join(self._parts)
            self._parts.clear()
            self.pending = 0
            self._keep(part)
            if line:
                yield line

    def _keep(self, part: bytes) -> None:
        self._parts.append(part)
        self.pending += len(part)
        if self.pending > self._longest:
            raise MalformedLine("too long a line", self.pending)


def parse_object(line: bytes) -> JsonObject:
    """Decode one line. Raises ``MalformedLine`` without a chained error, because orjson's error holds the document."""
    try:
        decoded: Any = orjson.loads(line)
    except orjson.JSONDecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise MalformedLine("a line that is no JSON object", len(line))
    return decoded  # pyright: ignore[reportUnknownVariableType]
