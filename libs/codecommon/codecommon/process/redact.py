"""Take secrets out of text before it reaches a condition, a log line, a trace, an event or a tool result.

``redact`` knows secrets by their shape; a ``Redactor`` also knows values that have none. Both are idempotent. They are the
last line of defence: a secret is kept out of text in the first place (``codecommon.process.secrets``).
"""

from __future__ import annotations

import base64
import re
from collections import OrderedDict
from typing import Final
from urllib.parse import quote, quote_plus

REDACTED: Final = "<redacted>"

# A shape begins a word; `\n` as two characters, as repr() and JSON write it, ends the word before.
_WORD_START: Final = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"
_NAMES: Final = (
    r"(?:(?:access|refresh|id|private|auth|api|session)[_-]?)?token|client[_-]?secret|api[_-]?key|passw(?:or)?d"
)

# Each alternative has one named group: the text before the secret, which stays.
_SHAPES: Final = re.compile(
    "|".join(
        (
            r"(?P<pem>-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)"
            r".*?(?:(?=-----END [A-Z0-9 ]{0,40}PRIVATE KEY)|\Z)",
            r"""(?P<header>(?i:authorization)["']?\s{0,4}(?:[:=]|(?<=["'])\s?,)\s{0,4}(?:b?["'])?+"""
            r"(?i:(?:bearer|basic|token|digest|negotiate)\s+)?+)"
            r"""[^\s"',;<>]+""",
            r"(?P<scheme>\b(?i:bearer|basic)\s+)(?=\S{20}|\S*[0-9=]|\S*[a-z][A-Z])[A-Za-z0-9._~+/=-]{8,}",
            r"(?P<userinfo>://)(?!git@)[^\s/@\"'<>]+(?=@)",
            rf"(?P<pair>(?i:{_NAMES})=[\"']?)[^\s\"'&,;<>)}}]+",
            rf"(?P<member>[\"'](?i:{_NAMES})\\?[\"']\s{{0,4}}:\s{{0,4}}\\?[\"'])[^\"'<>\\]+",
            r"(?P<code>[?&](?i:code|sig|signature|secret|key)=)[^\s\"'&#<>]+",
            r"(?P<hex>\b(?i:token|authorization|credential|secret|password)\b\W{1,4})[0-9a-fA-F]{40}\b",
            rf"(?P<jwt>){_WORD_START}eyJ[A-Za-z0-9_-]{{8,}}\.[A-Za-z0-9_-]{{4,}}(?:\.[A-Za-z0-9_-]*)?",
            rf"(?P<token>){_WORD_START}(?:gh[pousr]_|github_pat_)[A-Za-z0-9_]{{4,}}(?:[.-][A-Za-z0-9_-]{{8,}})*",
            r"(?P<glued>)(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})",
            # The same prefixes at the beginning of a base64 text, as in a Secret's data.
            r"(?P<encoded>)(?:Z2h[pvw1zy]X|Z2l0aHViX3BhdF)[A-Za-z0-9+/_-]{4,}={0,2}",
        )
    ),
    re.DOTALL,
)

# What every shape contains, in lower case: most text has none of these and is not searched.
_HINTS: Final = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "z2h", "z2l0", "eyj"),
    *("authorization", "bearer", "basic", "token", "secret", "password", "passwd", "credential"),
    *("private key", "api_key", "api-key", "apikey", "key=", "code=", "sig=", "signature=", "@"),
)
_BASE64: Final = (base64.b64encode, base64.urlsafe_b64encode)


def redact(text: str) -> str:
    """``text`` with everything that looks like a secret replaced."""
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return text
    return _SHAPES.sub(_replace, text)


def _replace(match: re.Match[str]) -> str:
    return f"{match[match.lastgroup or 0]}{REDACTED}"


class Redactor:
    """``redact`` that also knows given values, by themselves and in base64 and URL encoding.

    For secrets without a shape of their own. It remembers the ``limit`` values used last; ``forget`` drops one at once.
    """

    # Shorter values are words: replacing them would shred the text and so reveal them.
    _SHORTEST: Final = 8

    def __init__(self, *values: str, limit: int = 256) -> None:
        self._limit = limit
        self._forms: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        for value in values:
            self.register(value)

    def register(self, value: str) -> None:
        """Know ``value`` from now on; the value registered longest ago gives way when there are too many."""
        if len(value) < self._SHORTEST:
            return
        self._forms[value] = _forms(value)
        self._forms.move_to_end(value)
        if len(self._forms) > self._limit:
            self._forms.popitem(last=False)

    def forget(self, value: str) -> None:
        self._forms.pop(value, None)

    def __call__(self, text: str) -> str:
        for forms in self._forms.values():
            for form in forms:
                text = text.replace(form, REDACTED)
        return redact(text)

    def __repr__(self) -> str:
        return f"Redactor({len(self._forms)} values)"


def _forms(value: str) -> tuple[str, ...]:
    """How a value is written in text, longest first so that a form is not cut by a shorter one inside it."""
    raw = value.encode()
    # Whole groups of three: how the last bytes are encoded depends on what follows the value (often a newline).
    whole = raw[: len(raw) // 3 * 3]
    encoded = {encode(part).decode().rstrip("=") for encode in _BASE64 for part in (raw, whole)}
    escaped = {quote(value, safe=""), quote_plus(value), value.encode("unicode_escape").decode()}
    return tuple(sorted({value} | encoded | escaped, key=len, reverse=True))
