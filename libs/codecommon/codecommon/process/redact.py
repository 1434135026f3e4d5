"""Removes secrets from text before it reaches a condition, a log line, a trace, an event or a tool result.

``redact`` recognises secrets by their shape. A ``Redactor`` also recognises values that it was given. Both are idempotent.
They are the last line of defence: ``codecommon.process.secrets`` keeps secrets out of text in the first place.
"""

from __future__ import annotations

import base64
import re
from collections import OrderedDict
from typing import Final
from urllib.parse import quote, quote_plus

REDACTED: Final = "<redacted>"
# Whoever writes a text that a host or a tenant can make long cuts it shorter. This bounds the time of the rest: some 20 ms.
_LONGEST: Final = 128 * 1024

# A shape begins where a word begins. That is also after `\n` as two characters, which is how repr() and JSON write a line feed.
_WORD_START: Final = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"
_NAMES: Final = (
    r"(?:(?:access|refresh|id|private|auth|api|session)[_-]?)?token|client[_-]?secret|api[_-]?key|passw(?:or)?d"
)

# Each alternative has one named group. It holds the text before the secret, which stays.
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
            rf"(?P<token>){_WORD_START}(?:gh[pousr]_|github_pat_)[A-Za-z0-9_]{{4,}}(?:[.-][A-Za-z0-9_-]{{8,}}+)*+",
            r"(?P<glued>)(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})",
            # The same prefixes at the beginning of a base64 text, as in a Secret's data.
            r"(?P<encoded>)(?:Z2h[pvw1zy]X|Z2l0aHViX3BhdF)[A-Za-z0-9+/_-]{4,}={0,2}",
        )
    ),
    re.DOTALL,
)

# Every shape contains one of these, in lower case. Most text contains none and is not searched any further.
_HINTS: Final = (
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "z2h", "z2l0", "eyj"),
    *("authorization", "bearer", "basic", "token", "secret", "password", "passwd", "credential"),
    *("private key", "api_key", "api-key", "apikey", "key=", "code=", "sig=", "signature=", "@"),
)
_BASE64: Final = (base64.b64encode, base64.urlsafe_b64encode)


def cut(text: str, most: int) -> str:
    """The beginning of ``text``, at most ``most`` characters, without the word that the cut would go through.

    Cut before redacting: it bounds the work. Half of a token has no shape and is no known value, so the last word goes whole.
    """
    if len(text) <= most:
        return text
    words = text[: most - 1].rsplit(None, 1)
    return f"{words[0]}…" if len(words) == 2 else "…"


def redact(text: str) -> str:
    """``text`` with everything that looks like a secret replaced. Of a longer text only the first 128 KiB are left."""
    text = cut(text, _LONGEST)
    lowered = text.lower()
    if not any(hint in lowered for hint in _HINTS):
        return text
    return _SHAPES.sub(_replace, text)


def _replace(match: re.Match[str]) -> str:
    return f"{match[match.lastgroup or 0]}{REDACTED}"


class Redactor:
    """``redact`` that also removes given values, as they are and in base64 and URL encoding.

    For secrets that have no shape. It remembers the ``limit`` values that were registered last.
    """

    # A shorter value may be a word. Replacing it wherever it occurs would reveal it.
    _SHORTEST: Final = 8

    def __init__(self, *values: str, limit: int = 256) -> None:
        self._limit = limit
        self._forms: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        for value in values:
            self.register(value)

    def register(self, value: str) -> None:
        """Remove ``value`` from now on. Beyond ``limit`` values, the one registered longest ago is forgotten."""
        if len(value) < self._SHORTEST:
            return
        self._forms[value] = _forms(value)
        self._forms.move_to_end(value)
        if len(self._forms) > self._limit:
            self._forms.popitem(last=False)

    def __call__(self, text: str) -> str:
        text = cut(text, _LONGEST)
        for forms in self._forms.values():
            for form in forms:
                text = text.replace(form, REDACTED)
        return redact(text)


def _forms(value: str) -> tuple[str, ...]:
    """The forms that a value takes in text, longest first, so that no form is cut by a shorter one inside it."""
    raw = value.encode()
    # base64 encodes groups of three bytes. How the last bytes are encoded depends on what follows the value, often a line feed.
    whole = raw[: len(raw) // 3 * 3]
    encoded = {encode(part).decode().rstrip("=") for encode in _BASE64 for part in (raw, whole)}
    escaped = {quote(value, safe=""), quote_plus(value), value.encode("unicode_escape").decode()}
    return tuple(sorted({value} | encoded | escaped, key=len, reverse=True))
