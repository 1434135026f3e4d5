"""Text that strangers wrote, made harmless before a language model or a person reads it.

Names, descriptions and messages come from tenants and git hosts. A text may carry characters that nobody sees and a model
reads as instructions, or that turn around what a person sees.
"""

from __future__ import annotations

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


def plain(text: str, longest: int = LONGEST_TEXT) -> str:
    """``text`` without hidden characters and secrets, at most ``longest`` characters long."""
    # Twice as long, so that a text is not short only because of what was hidden in it. The rest is never looked at.
    return cut(redact(_without_hidden(cut(text, 2 * longest))), longest)


def one_line(text: str, longest: int) -> str:
    """As ``plain``, on one line and with single blanks."""
    words = (_without_hidden(word) for word in cut(text, 4 * longest).split())
    line = " ".join("".join(filter(str.isprintable, word)) for word in words if word)
    return cut(redact(" ".join(line.split())), longest)


def _without_hidden(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    text = _HIDDEN.sub("", text)
    return "".join(c for c in text if c in _KEPT or unicodedata.category(c) not in _HIDDEN_CATEGORIES)


def plain_values(value: Any) -> Any:
    """A JSON value whose every text, keys included, is ``plain``."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(str(key)): plain_values(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, (list, tuple)):
        return [plain_values(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value
