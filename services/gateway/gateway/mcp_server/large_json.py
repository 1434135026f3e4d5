"""A bound on the values of a large JSON document, found before it is parsed.

Parsing holds the event loop in one call, in a thread, too. Long texts are parsed at 200 MiB/s and more, and large requests are
meant for them. A document of small values is parsed at 10 MiB/s and becomes 20 times as large in memory. So values are counted
first, a piece at a time, and everybody else has their turn in between.
"""

from __future__ import annotations

import asyncio
from typing import Final

LARGE: Final = 256 << 10
"""Bytes. A smaller document is parsed within 25 ms, whatever is in it."""
MOST_VALUES: Final = 100_000
"""Of a large document: its texts, and what stands around them. 500 files with their names take 4,000."""
_PIECE: Final = 256 << 10
_MARKS: Final = b'"[{:,'
_OTHERS: Final = bytes(set(range(256)) - set(_MARKS))


class LargeJson:
    """Counts in one document at a time, so that many of them take no more of the loop than one."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def refusal(self, document: bytes) -> str | None:
        """What is wrong with the document, in words for its sender. None: it may be parsed."""
        if len(document) <= LARGE:
            return None
        async with self._lock:
            values = 0
            quoted, escape = False, b""
            for start in range(0, len(document), _PIECE):
                piece = escape + document[start : start + _PIECE]
                if b"\0" in piece:
                    # UTF-16, which Python's parser takes, and in which the marks would be told apart wrongly.
                    return "The body of this request is not JSON in UTF-8."
                # A backslash at the end escapes what comes next.
                escape = b"\\" if (len(piece) - len(piece.rstrip(b"\\"))) % 2 else b""
                marks = piece[: len(piece) - len(escape)].replace(b"\\\\", b"").replace(b'\\"', b"")
                parts = marks.translate(None, _OTHERS).split(b'"')
                texts_begun = (len(parts) - quoted) // 2
                values += texts_begun + sum(map(len, parts[quoted::2]))
                quoted ^= len(parts) % 2 == 0
                if values > MOST_VALUES:
                    return f"A request of more than {LARGE} bytes holds at most {MOST_VALUES} JSON values."
                await asyncio.sleep(0)
        return None
