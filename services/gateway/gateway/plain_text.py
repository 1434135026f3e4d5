"""Text that strangers wrote, made harmless before a language model or a person reads it.

Names, descriptions and messages come from tenants and git hosts. A text may carry characters that nobody sees and a model
reads as instructions, or that turn around what a person sees.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from typing import Any, Final

from codecommon.process.redact import cut, redact

LONGEST_TEXT: Final = 8 << 10
"""Characters of one text in a result."""

# Control and format characters (tags and bidirectional marks are among them), lone surrogates, private use and line separators.
_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
# Invisible although their category does not say so: joiners, fillers, variation selectors.
_HIDDEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_KEPT: Final = "\n\t"


_PIECE: Final = 16 << 10
"""Characters that are made plain in one step of the event loop. The worst text of that length takes some 10 ms."""


class Plain(str):
    """A text that is plain already, and need not be looked at again. What is made of it is an ordinary text."""

    __slots__ = ()


class Verbatim(Plain):
    """The content or the path of a file. Who asks for it needs it as it is: it is not made plain."""

    __slots__ = ()


class TooLong(Exception):
    """The texts of a value are longer than they may be together."""


def plain(text: str, longest: int = LONGEST_TEXT) -> str:
    """``text`` without hidden characters and secrets, at most ``longest`` characters long."""
    # Twice as long, so that a text is not short only because of what was hidden in it. The rest is never looked at.
    return cut(redact(_without_hidden(cut(text, 2 * longest))), longest)


def one_line(text: str, longest: int) -> Plain:
    """As ``plain``, on one line and with single blanks."""
    line = cut(text, 4 * longest)
    if not (line.isascii() and line.isprintable()):
        words = (_without_hidden(word) for word in line.split())
        line = " ".join("".join(filter(str.isprintable, word)) for word in words if word)
    return Plain(cut(redact(" ".join(line.split())), longest))


def _without_hidden(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    text = _HIDDEN.sub("", text)
    if text.isprintable():  # then no character is of a hidden category
        return text
    return "".join(c for c in text if c in _KEPT or unicodedata.category(c) not in _HIDDEN_CATEGORIES)


async def plain_values(value: Any, most: int) -> Any:
    """A JSON value whose every text, keys included, is ``plain``. Others may use the event loop meanwhile.

    Raises ``TooLong`` as soon as its texts have more than ``most`` characters together.
    """
    return await _Values(most).plain(value)


class _Values:
    def __init__(self, most: int) -> None:
        self._left = most
        self._piece = 0

    async def plain(self, value: Any) -> Any:
        if isinstance(value, str):
            return await self._text(value)
        if isinstance(value, dict):
            return {await self._text(str(key)): await self.plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if isinstance(value, (list, tuple)):
            return [await self.plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        return value

    async def _text(self, text: str) -> str:
        self._piece += min(len(text), 2 * LONGEST_TEXT)
        if self._piece > _PIECE:
            self._piece = 0
            await asyncio.sleep(0)
        text = str(text) if isinstance(text, Plain) else plain(text)
        self._left -= len(text)
        if self._left < 0:
            raise TooLong
        return text
