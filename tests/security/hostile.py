"""Texts that are expensive for a careless reader, and where in an object a tenant can write them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from codecommon.api.kinds import KINDS

ROOT: Final = Path(__file__).resolve().parents[2]
LONGEST: Final = 700_000
"""Characters. kcp stores no object above 1.5 MB, and a Secret's entry grows by a third in base64."""

Path_ = tuple[str, ...]

# The only objects in a list are conditions. These are their required fields.
_CONDITION: Final = {
    "type": "Ready",
    "status": "True",
    "reason": "Reconciled",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


def texts(length: int) -> dict[str, str]:
    """Each at most ``length`` characters long."""
    long = min(length, LONGEST)
    certificate = "-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(b"0\x82\x03\x01" + b"A" * 768).decode()
    whole = {
        "letters": "a" * long,
        "line ends": "\n" * long,
        "blanks and an end": " " * (long - 1) + "!",
        "digits": "9" * long,
        "dots": "a." * (long // 2),
        "dashes": "-" * long,
        "steps up": "../" * (long // 3),
        "brackets": "[" * long,
        "not ASCII": "\u202e\x1b" * (long // 2),
        "words": "ssh-rsa AAAA " * (long // 13),
        "certificates": (certificate + "-----END CERTIFICATE-----\n") * (long // 1100 + 1),
        "heads of keys": "-----BEGIN RSA PRIVATE KEY-----\n" * (long // 32 + 1),
        "a key without end": "-----BEGIN OPENSSH PRIVATE KEY-----\n" + "A" * long,
        "a token and more": "ghp_" + "b" * 36 + "\t" * long,
        "an address": "https://" + "a-" * (long // 2),
        "a time": "2026-01-01T00:00:00." + "0" * long + "Z",
    }
    return {name: text[:long] for name, text in whole.items()}


def keys() -> dict[str, str]:
    """Private keys that OpenSSL needs seconds to check, because their factors are large primes: those of Mersenne."""
    made = dict[str, str]()
    for exponents in ((2203, 2281), (9689, 9941)):
        p, q = (2**exponent - 1 for exponent in exponents)
        bits = sum(exponents)
        d = pow(65537, -1, (p - 1) * (q - 1))
        numbers = (0, p * q, 65537, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
        der = _element(0x30, b"".join(_element(0x02, n.to_bytes(n.bit_length() // 8 + 1)) for n in numbers))
        name = "RSA PRIVATE KEY"
        made[f"RSA of {bits} bits"] = (
            f"-----BEGIN {name}-----\n{base64.encodebytes(der).decode()}-----END {name}-----\n"
        )
        ssh = [n.to_bytes(n.bit_length() // 8 + 1) for n in (p * q, 65537, d, numbers[8], p, q)]
        public = _string(b"ssh-rsa") + _string(ssh[1]) + _string(ssh[0])
        private = b"\x01\x02\x03\x04" * 2 + _string(b"ssh-rsa") + b"".join(map(_string, ssh)) + _string(b"")
        private += bytes(range(1, 1 + -len(private) % 8))
        head = b"openssh-key-v1\0" + _string(b"none") + _string(b"none") + _string(b"") + (1).to_bytes(4)
        body = base64.encodebytes(head + _string(public) + _string(private)).decode()
        made[f"OpenSSH of {bits} bits"] = (
            f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}-----END OPENSSH PRIVATE KEY-----\n"
        )
    return made


def places(resource: str) -> Iterator[tuple[Path_, int]]:
    """Each text in spec and status of a kind, with the greatest length that its schema admits."""
    crd = yaml.safe_load((ROOT / "crds" / f"{resource}.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    for part in ("spec", "status"):
        yield from _texts_in(schema[part], (part,))


def put(path: Path_, text: str) -> dict[str, Any]:
    """A merge patch that writes ``text`` there. ``[]`` in a path is a list of one."""
    value: Any = text
    for step in reversed(path):
        value = {step: value} if step != "[]" else [_CONDITION | value if isinstance(value, dict) else value]
    return value


def reconciled() -> list[str]:
    """The kinds that somebody reconciles."""
    return [kind.resource for kind in KINDS.values() if kind.service is not None]


def _texts_in(schema: dict[str, Any], path: Path_) -> Iterator[tuple[Path_, int]]:
    match schema.get("type"):
        case "string" if "enum" not in schema:
            yield path, schema.get("maxLength", LONGEST)
        case "object":
            for name, inner in schema.get("properties", {}).items():
                yield from _texts_in(inner, (*path, name))
        case "array":
            yield from _texts_in(schema["items"], (*path, "[]"))
        case _:
            return


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8 or 1)
    return bytes([tag, *([size] if size < 0x80 else [0x80 | len(length), *length])]) + content


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4) + value
