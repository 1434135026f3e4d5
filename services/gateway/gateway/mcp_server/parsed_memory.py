"""A bound on what large JSON documents take once they are parsed, all of them together.

Python keeps a text with as many bytes for each letter as its widest letter needs. So one emoji makes 47 MiB of ASCII 188 MiB, and
while the document is parsed it is there twice: as a whole, and as the text in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

LARGE: Final = 64 << 10
"""Bytes. A smaller document does not count. So many calls as run at the same time keep little of them."""

_PIECE: Final = 256 << 10
_LATIN: Final = bytes(range(0xC4))
"""The bytes of UTF-8 that stand in no letter of two bytes or more in memory."""
_FOUR_BYTES: Final = 0xF0
"""The least byte of UTF-8 that begins a letter of four bytes."""


class NoTurn(Exception):
    """Other documents take the memory for longer than this one waits."""


class ParsedMemory:
    """``most`` bytes for all documents. Who asks first is first. A document that is larger has the whole for itself."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = most
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def hold(self, document: bytes, until: float) -> AsyncIterator[None]:
        """Wait for room, at the latest ``until``, by the loop's clock, and have it while the body runs. Raises ``NoTurn``."""
        if len(document) <= LARGE:
            yield
            return
        try:
            async with asyncio.timeout_at(until), self._turn:
                size = min(len(document) * await _letter_bytes(document), self._most)
                while self._free < size:
                    self._freed.clear()
                    await self._freed.wait()
                self._free -= size
        except TimeoutError:
            raise NoTurn from None
        try:
            yield
        finally:
            self._free += size
            self._freed.set()


async def _letter_bytes(document: bytes) -> int:
    """How many bytes a letter of the document's texts may take in memory: 1, 2 or 4. Others have their turn in between."""
    found = 1
    for start in range(0, len(document), _PIECE):
        # An escape may begin in the piece before.
        piece = document[max(0, start - 2) : start + _PIECE]
        wide = piece.translate(None, _LATIN)
        if b"\\ud" in piece or b"\\uD" in piece or max(wide, default=0) >= _FOUR_BYTES:
            return 4
        if wide or b"\\u" in piece:
            found = 2
        await asyncio.sleep(0)
    return found
