"""Durations as Go writes them: ``90s``, ``2m``, ``1h30m``, ``1.5h``, ``500ms``."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

_UNIT_NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # MICRO SIGN
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_NUMBER: Final = r"(?:[0-9]++\.?[0-9]*+|\.[0-9]++)"
_UNIT: Final = "|".join(sorted(_UNIT_NANOSECONDS, key=len, reverse=True))
_TERM: Final = re.compile(f"({_NUMBER})({_UNIT})")
_DURATION: Final = re.compile(f"([-+]?)((?:{_NUMBER}(?:{_UNIT}))+)")
# Every unit with all the digits that count fits. A tenant can write megabytes.
_LONGEST_TEXT: Final = 128
_LONGEST_NANOSECONDS: Final = 2**63 - 1


def parse_duration(text: str) -> timedelta:
    """Read a Go duration; parts of a microsecond are dropped. Raises ``ValueError`` with what is wrong with the text."""
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"a duration has at most {_LONGEST_TEXT} characters")
    if text in ("0", "+0", "-0"):
        return timedelta()
    match = _DURATION.fullmatch(text)
    if match is None:
        if re.fullmatch(f"[-+]?{_NUMBER}", text):
            raise ValueError(f"{text!r} has no unit")
        raise ValueError(f"{text!r} is not a duration")
    sign, terms = match.groups()
    nanoseconds = sum(int(Decimal(number) * _UNIT_NANOSECONDS[unit]) for number, unit in _TERM.findall(terms))
    if nanoseconds > _LONGEST_NANOSECONDS:
        raise ValueError(f"{text!r} is longer than 292 years")
    return timedelta(microseconds=nanoseconds // 1000) * (-1 if sign == "-" else 1)
