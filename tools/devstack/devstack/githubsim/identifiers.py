"""Identifiers in the shapes that GitHub gives them: node ids, tokens, request ids."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import string
from typing import Literal

TokenKind = Literal["classic", "oauth", "fine-grained", "installation"]
_PREFIXES: dict[TokenKind, str] = {"classic": "ghp", "oauth": "gho", "installation": "ghs"}

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase

TOKEN_SHAPE = re.compile(r"(?:gh[a-z]_|github_pat_)\w+")
"""What a GitHub credential looks like, wherever it turns up in a text."""


def node_id(prefix: str, number: int) -> str:
    """The global id of an object: its type prefix (`R`, `U`, `O`) and a MessagePack array `[0, number]`."""
    packed = b"\x92\x00\xce" + number.to_bytes(4, "big")
    return f"{prefix}_{base64.urlsafe_b64encode(packed).decode().rstrip('=')}"


def new_token(kind: TokenKind) -> str:
    """A fresh random credential with the prefix and length of its kind."""
    if kind == "fine-grained":
        return f"github_pat_{_random(22)}_{_random(59)}"
    body = _random(30)
    return f"{_PREFIXES[kind]}_{body}{_checksum(body)}"


def request_id(sequence: int, now: float) -> str:
    """A request id: five hexadecimal groups, the last one the time in seconds."""
    return f"C0DE:3E649A:{0x3000000 + sequence:X}:{0x3200000 + sequence:X}:{int(now):X}"


def _random(length: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def _checksum(body: str) -> str:
    number, digits = binascii.crc32(body.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits.rjust(6, "0")
