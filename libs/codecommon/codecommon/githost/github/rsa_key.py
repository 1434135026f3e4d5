"""An App's RSA private key, from PEM text. Pure.

No library reads the text. OpenSSL looks for primes when it loads a key: 0.4 s for 4,096 bits and a minute for a file of 15 KB,
and nothing else in the process runs meanwhile. So the numbers are read here, their sizes are bounded, and a little arithmetic
shows whether they belong together. Whether the factors are primes is not tested: if they are not, signatures are wrong, and the
host refuses them.
"""

from __future__ import annotations

import base64
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal

# GitHub makes keys of 2,048 bits. RS256 asks for no fewer, and four times the work is enough for anybody.
_LEAST_BITS: Final = 2048
_MOST_BITS: Final = 4096
# A key of 4,096 bits has 3,300 characters. The rest is room for what stands around it, and for keys to be refused by their size.
_LONGEST_TEXT: Final = 65536

_PKCS1: Final = "RSA PRIVATE KEY"
_PKCS8: Final = "PRIVATE KEY"
_INTEGER: Final = 0x02
_OCTET_STRING: Final = 0x04
_SEQUENCE: Final = 0x30
_RSA_ENCRYPTION: Final = bytes.fromhex("06092a864886f70d010101")
# Of a length. Three bytes count up to 16 MiB.
_MOST_LENGTH_BYTES: Final = 3


def load_rsa_key(text: str) -> rsa.RSAPrivateKey:
    """The key in ``text``: PEM, PKCS#1 or PKCS#8, without passphrase. Line ends may be the two characters ``\\n``.

    Raises ``Terminal`` (``CredentialInvalid``). No message repeats any part of the text.
    """
    if len(text) > _LONGEST_TEXT:
        raise _refused("is too long to be a private key")
    try:
        numbers = _numbers(*_from_pem(text))
    except ValueError:
        raise _refused("is not an RSA private key in PEM form without a passphrase") from None
    _, n, e, d, p, q, dp, dq, inverse = numbers
    bits = n.bit_length()
    if not _LEAST_BITS <= bits <= _MOST_BITS:
        raise _refused(f"is an RSA key of {bits:,} bits, and {_LEAST_BITS:,} to {_MOST_BITS:,} are taken")
    if not _belong_together(numbers):
        raise _refused("is not an RSA private key that can sign; it may have been damaged")
    public = rsa.RSAPublicNumbers(e, n)
    private = rsa.RSAPrivateNumbers(p=p, q=q, d=d, dmp1=dp, dmq1=dq, iqmp=inverse, public_numbers=public)
    try:
        return private.private_key(unsafe_skip_rsa_key_validation=True)
    except ValueError:
        raise _refused("is not an RSA private key that can sign; it may have been damaged") from None


def _from_pem(text: str) -> tuple[str, bytes]:
    """The label of the first block, and its content. Raises ValueError."""
    # Environment files and JSON write a line end as two characters, and no PEM has a backslash.
    text = text.replace("\\r", "\n").replace("\\n", "\n")
    _, _, rest = text.partition("-----BEGIN ")
    label, _, rest = rest.partition("-----")
    body, end, _ = rest.partition(f"-----END {label}-----")
    if not end:
        raise ValueError("no PEM")
    return label, base64.b64decode("".join(body.split()), validate=True)


def _numbers(label: str, der: bytes) -> list[int]:
    """The nine numbers of PKCS#1, the version first. Raises ValueError."""
    if label == _PKCS8:
        der = _inner(der)
    elif label != _PKCS1:
        raise ValueError("another kind of key")
    at, end = _content(der, 0, len(der), _SEQUENCE)
    numbers: list[int] = []
    for _ in range(9):
        first, at = _content(der, at, end, _INTEGER)
        numbers.append(int.from_bytes(der[first:at], signed=True))
    if at != end:
        raise ValueError("more than two factors")
    return numbers


def _inner(der: bytes) -> bytes:
    """The PKCS#1 within PKCS#8. Raises ValueError, also for a key that is not RSA."""
    at, end = _content(der, 0, len(der), _SEQUENCE)
    _, at = _content(der, at, end, _INTEGER)
    first, at = _content(der, at, end, _SEQUENCE)
    if not der[first:at].startswith(_RSA_ENCRYPTION):
        raise ValueError("not RSA")
    first, at = _content(der, at, end, _OCTET_STRING)
    return der[first:at]


def _content(der: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """Where the content of the element at ``at`` begins and ends. Raises ValueError for one that does not lie before ``end``."""
    if at + 2 > end or der[at] != tag:
        raise ValueError("not the element that was expected")
    first, length = at + 2, der[at + 1]
    if length >= 0x80:
        count = length - 0x80
        if not 0 < count <= _MOST_LENGTH_BYTES:
            raise ValueError("a length that no key has")
        length = int.from_bytes(der[first : first + count])
        first += count
    if length == 0 or first + length > end:
        raise ValueError("cut off")
    return first, first + length


def _belong_together(numbers: list[int]) -> bool:
    """Whether the numbers are those of one RSA key, as far as that is cheap to tell. The modulus is of a size that is taken."""
    version, n, e, d, p, q, dp, dq, inverse = numbers
    # First the sizes, so that all arithmetic is on small numbers. OpenSSL needs odd moduli, and nobody makes unequal factors.
    half = (n.bit_length() + 1) // 2
    return (
        version == 0
        and 1 < p < 1 << half
        and 1 < q < 1 << half
        and p % 2 == q % 2 == e % 2 == 1
        and 1 < e < n
        and 0 < d < n
        and p * q == n
        and d % (p - 1) == dp
        and d % (q - 1) == dq
        and dp * e % (p - 1) == 1
        and dq * e % (q - 1) == 1
        and 0 < inverse < p
        and inverse * q % p == 1
    )


def _refused(what: str) -> Terminal:
    return Terminal(
        Reason.CREDENTIAL_INVALID,
        f"githubAppPrivateKey of the Secret {what}; nothing was sent to the host. Put the key in as GitHub gave it, or generate "
        "another one in the App's settings",
    )
