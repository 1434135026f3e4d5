"""SSH keys: to read a public key that a person gave, and to make a pair. Pure but for the random numbers."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.process.secrets import SecretValue

_ALGORITHMS: Final = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)
_LENGTH_BYTES: Final = 4
# The schema's bound of spec.publicKey. A key of RSA with 16,384 bits has 2,800 characters.
_LONGEST_PUBLIC: Final = 8192
# Ours have 400 characters; one to which somebody gave a comment has a few more.
_LONGEST_PRIVATE: Final = 2048
_PRIVATE_HEAD: Final = "-----BEGIN OPENSSH PRIVATE KEY-----"
_PRIVATE_TAIL: Final = "-----END OPENSSH PRIVATE KEY-----"


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(_LENGTH_BYTES) + value


# How a file begins that holds one ed25519 key without a passphrase: cipher, key derivation and its options, the number of keys,
# then the length of the public half (51 bytes), its algorithm, and the length of its point.
# https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key
_ONE_OPEN_ED25519: Final = (
    b"openssh-key-v1\0"
    + _string(b"none")
    + _string(b"none")
    + _string(b"")
    + (1).to_bytes(_LENGTH_BYTES)
    + (51).to_bytes(_LENGTH_BYTES)
    + _string(b"ssh-ed25519")
    + (32).to_bytes(_LENGTH_BYTES)
)


@dataclass(frozen=True, slots=True)
class Pair:
    """``private``: a whole OpenSSH private key file. ``public``: algorithm and base64, without comment."""

    private: SecretValue
    public: str


def generate() -> Pair:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return Pair(SecretValue(private.decode()), public.decode())


def normalised(text: str) -> str:
    """``algorithm base64`` of a public key in OpenSSH format, as hosts compare keys.

    Raises ``Terminal`` (``InvalidPublicKey``). Its message does not repeat the text, which may be a private key.
    """
    if len(text) > _LONGEST_PUBLIC:
        raise _invalid(f"spec.publicKey is longer than {_LONGEST_PUBLIC:,} characters, which no public key is")
    if "PRIVATE KEY" in text:
        raise _invalid(
            "spec.publicKey holds a private key; it is readable by everybody who reads this object: replace the key"
        )
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        raise _invalid("spec.publicKey is one line: algorithm, key in base64, and a comment if wanted")
    fields = lines[0].split()
    if len(fields) < 2 or fields[0] not in _ALGORITHMS:
        known = ", ".join(sorted(_ALGORITHMS))
        raise _invalid(f"spec.publicKey does not begin with one of the algorithms {known}")
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except ValueError:
        # binascii.Error is a ValueError; text that is not ASCII raises another one.
        raise _invalid("the second word of spec.publicKey is not base64") from None
    name = fields[0].encode()
    if blob[_LENGTH_BYTES : _LENGTH_BYTES + len(name)] != name or int.from_bytes(blob[:_LENGTH_BYTES]) != len(name):
        raise _invalid(f"the key in spec.publicKey is not one of {fields[0]}; it may have been cut while it was copied")
    return f"{fields[0]} {fields[1]}"


def given_by(text: str | None) -> str | None:
    """``normalised`` of what a person gave. None: they gave nothing, or no key."""
    try:
        return normalised(text) if text else None
    except Terminal:
        return None


def public_half(private: str) -> str | None:
    """The ``normalised`` public key of a private half that ``generate`` could have made. None: it is anything else.

    Whoever may write the Secret chooses the text, and every reconcile reads it. So nothing but an ed25519 key reaches the
    library, which would work for seconds on a large RSA key.
    """
    if not _is_open_ed25519(private):
        return None
    try:
        key = serialization.load_ssh_private_key(private.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return public.decode()


def _is_open_ed25519(private: str) -> bool:
    """Whether the text is an OpenSSH file with one ed25519 key and no passphrase, by the way it begins."""
    if len(private) > _LONGEST_PRIVATE:
        return False
    text = private.strip()
    if not (text.startswith(_PRIVATE_HEAD) and text.endswith(_PRIVATE_TAIL)):
        return False
    body = text.removeprefix(_PRIVATE_HEAD).removesuffix(_PRIVATE_TAIL)
    try:
        return base64.b64decode("".join(body.split()), validate=True).startswith(_ONE_OPEN_ED25519)
    except ValueError:
        return False


def _invalid(message: str) -> Terminal:
    return Terminal(Reason.INVALID_PUBLIC_KEY, message)
