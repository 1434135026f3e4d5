"""How long a text is in an object that kcp stores. kcp refuses objects that are too long, however often they are written."""

from __future__ import annotations

import re
from typing import Final

import orjson

_LONGER_IN_GO: Final = re.compile("[<>&\b\f\u2028\u2029]")
_ESCAPE_BYTES: Final = 6


def stored_bytes(text: str) -> int:
    """The bytes of the text as a JSON string, as Go writes it."""
    return len(orjson.dumps(text)) + (_ESCAPE_BYTES - 1) * len(_LONGER_IN_GO.findall(text))


def end_within(text: str, most: int) -> str:
    """The longest end of the text that has ``most`` bytes, as of ``stored_bytes``."""
    text = text[-max(most, 1) :]
    short, long = 0, len(text)
    while short < long:
        middle = (short + long + 1) // 2
        if stored_bytes(text[-middle:]) <= most:
            short = middle
        else:
            long = middle - 1
    return text[len(text) - short :]
