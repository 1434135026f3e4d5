"""Which private keys of an App are taken, and that none of them costs more than a little arithmetic to look at."""

from __future__ import annotations

import base64
import math
import threading
from dataclasses import dataclass, replace
from functools import cache

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from codecommon.api.results import Terminal
from codecommon.githost.github.app import AppKey
from codecommon.githost.github.credential import AppSecret
from codecommon.process.secrets import SecretValue

PKCS1, PKCS8 = "RSA PRIVATE KEY", "PRIVATE KEY"
RSA_OID = bytes.fromhex("06092a864886f70d0101010500")


# ---- keys, put together by hand


@dataclass(frozen=True)
class Numbers:
    """What an RSA private key consists of, in the order of PKCS#1."""

    version: int
    n: int
    e: int
    d: int
    p: int
    q: int
    dp: int
    dq: int
    inverse: int

    @staticmethod
    def of(p: int, q: int, e: int = 65537) -> Numbers:
        d = pow(e, -1, math.lcm(p - 1, q - 1))
        return Numbers(0, p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))

    def der(self) -> bytes:
        numbers = (self.version, self.n, self.e, self.d, self.p, self.q, self.dp, self.dq, self.inverse)
        return element(0x30, b"".join(map(integer, numbers)))


def element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def integer(number: int) -> bytes:
    return element(0x02, number.to_bytes(number.bit_length() // 8 + 1, signed=True))


def pem(der: bytes, label: str = PKCS1) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"


def pkcs8(der: bytes, algorithm: bytes = RSA_OID) -> bytes:
    return element(0x30, integer(0) + element(0x30, algorithm) + element(0x04, der))


@cache
def generated(size: int) -> rsa.RSAPrivateKey:
    """Made once for each size: a large one takes seconds."""
    return rsa.generate_private_key(public_exponent=65537, key_size=size)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return generated(2048)


@pytest.fixture(scope="module")
def numbers(key: rsa.RSAPrivateKey) -> Numbers:
    whole = key.private_numbers()
    n = whole.public_numbers.n
    return Numbers(0, n, 65537, whole.d, whole.p, whole.q, whole.dmp1, whole.dmq1, whole.iqmp)


def app_key(text: str) -> AppKey:
    return AppKey(AppSecret("7", None, "acme", SecretValue(text)))


def refusal(text: str) -> str:
    with pytest.raises(Terminal) as refused:
        app_key(text)
    assert refused.value.reason == "CredentialInvalid"
    assert "nothing was sent" in refused.value.message
    return refused.value.message


@pytest.fixture
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object, **__: object) -> None:
        pytest.fail("a library got a key that nobody had looked at")

    monkeypatch.setattr(rsa, "RSAPrivateNumbers", loaded)
    for name in ("load_pem_private_key", "load_der_private_key", "load_ssh_private_key"):
        monkeypatch.setattr(serialization, name, loaded)


# ---- what is taken


@pytest.mark.parametrize("form", [PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8])
@pytest.mark.parametrize("size", [2048, 4096])
async def test_a_key_as_github_or_openssl_writes_it_signs(size: int, form: PrivateFormat) -> None:
    key = generated(size)
    token = await app_key(key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()).token()
    claims = jwt.decode(token.reveal(), key.public_key(), algorithms=["RS256"], options={"verify_iat": False})
    assert claims["iss"] == "7"


async def test_the_signature_is_not_made_on_the_event_loop(numbers: Numbers, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    encode = jwt.encode

    def watched(*args: object, **options: object) -> str:
        threads.append(threading.current_thread())
        return encode(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(jwt, "encode", watched)
    await app_key(pem(numbers.der())).token()
    assert threads
    assert threading.current_thread() not in threads


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\\n"),
        lambda text: text.replace("\n", "\\r\\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n    "),
        lambda text: text.replace("\n", " "),
        lambda text: f"\n\n  {text}\n\n",
        lambda text: "subject=/CN=app\n" + text,
    ],
    ids=["literal line ends", "literal CRLF", "CRLF", "indented", "one line", "surrounded", "text before it"],
)
async def test_a_key_is_read_as_people_paste_it(numbers: Numbers, key: rsa.RSAPrivateKey, change: object) -> None:
    assert callable(change)
    token = await app_key(str(change(pem(numbers.der())))).token()
    jwt.decode(token.reveal(), key.public_key(), algorithms=["RS256"], options={"verify_iat": False})


# ---- what is refused, before any library sees it


@pytest.mark.parametrize("wrap", [False, True], ids=["PKCS#1", "PKCS#8"])
@pytest.mark.parametrize("size", [4097, 15 * 1024 * 8])
@pytest.mark.usefixtures("nothing_is_loaded")
def test_a_key_of_too_many_bits_is_refused_by_its_size(size: int, wrap: bool) -> None:
    n = (1 << (size - 1)) | 1
    der = Numbers(0, n, 65537, 3, 3, 3, 3, 3, 3).der()
    message = refusal(pem(pkcs8(der), PKCS8) if wrap else pem(der))
    assert f"{size:,} bits" in message
    assert "4,096" in message
    assert "generate" in message


@pytest.mark.usefixtures("nothing_is_loaded")
def test_a_key_that_is_too_short_to_sign_with_is_refused_by_its_size() -> None:
    assert "512 bits" in refusal(pem(Numbers(0, (1 << 511) | 1, 65537, 3, 3, 3, 3, 3, 3).der()))


@pytest.mark.parametrize("name", ["e", "d", "p", "q", "dp", "dq", "inverse"])
@pytest.mark.parametrize("number", [0, 1, -3, (1 << 100_000) + 1], ids=["0", "1", "negative", "huge"])
@pytest.mark.usefixtures("nothing_is_loaded")
def test_no_other_number_of_a_key_may_be_any_size(numbers: Numbers, name: str, number: int) -> None:
    refusal(pem(replace(numbers, **{name: number}).der()))


@pytest.mark.parametrize("name", ["version", "n", "e", "d", "p", "q", "dp", "dq", "inverse"])
@pytest.mark.usefixtures("nothing_is_loaded")
def test_numbers_that_do_not_belong_together_are_refused(numbers: Numbers, name: str) -> None:
    refusal(pem(replace(numbers, **{name: getattr(numbers, name) + 2}).der()))


@pytest.mark.usefixtures("nothing_is_loaded")
def test_factors_of_unequal_size_are_refused(numbers: Numbers) -> None:
    # The more a factor has of the key's bits, the dearer it is to work with.
    refusal(pem(Numbers.of((1 << 3000) | 1, (1 << 601) | 1, e=5).der()))


async def test_factors_that_are_no_primes_harm_nobody_but_the_keys_owner() -> None:
    # Each is a square, so neither is a prime, and they have no factor in common.
    p, q = ((1 << 512) - 5) ** 2, ((1 << 512) - 3) ** 2
    token = await app_key(pem(Numbers.of(p, q).der())).token()
    assert token.reveal().count(".") == 2, "the host will refuse the signature"


def other_keys() -> dict[str, str]:
    def text(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, form: PrivateFormat) -> str:
        return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()

    curve, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    whole = generated(2048)
    public = whole.public_key().public_bytes(Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    locked = BestAvailableEncryption(b"passphrase")
    return {
        "EC in its own form": text(curve, PrivateFormat.TraditionalOpenSSL),
        "EC in PKCS#8": text(curve, PrivateFormat.PKCS8),
        "ed25519": text(edwards, PrivateFormat.PKCS8),
        "OpenSSH": text(edwards, PrivateFormat.OpenSSH),
        "PKCS#8 with a passphrase": whole.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked).decode(),
        "PKCS#1 with a passphrase": whole.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, locked
        ).decode(),
        "a public key": public,
        "a token": "ghp_abcdefgh",
        "nothing": "",
    }


OTHERS = other_keys()


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.usefixtures("nothing_is_loaded")
def test_what_is_no_rsa_private_key_is_refused(kind: str) -> None:
    message = refusal(OTHERS[kind])
    assert "not an RSA private key" in message
    assert not any(line and line in message for line in OTHERS[kind].splitlines())


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30",
        b"\x30\x80\x00\x00",
        b"\x30\x88" + b"\xff" * 8,
        b"\x30\x84\xff\xff\xff\xff\x02\x01\x00",
        element(0x30, integer(0)),
        element(0x30, integer(0) + b"\x02\x00"),
        element(0x30, integer(0) + b"\x02\x7f\x01"),
        pkcs8(b"\x30"),
        b"\x30\x82" * 10_000,
    ],
)
@pytest.mark.parametrize("label", [PKCS1, PKCS8])
@pytest.mark.usefixtures("nothing_is_loaded")
def test_der_that_is_cut_or_lies_about_its_lengths_is_refused(der: bytes, label: str) -> None:
    assert "not an RSA private key" in refusal(pem(der, label))


@pytest.mark.usefixtures("nothing_is_loaded")
def test_every_cut_of_a_key_is_refused(numbers: Numbers) -> None:
    der = numbers.der()
    for end in range(len(der)):
        refusal(pem(der[:end]))


@pytest.mark.usefixtures("nothing_is_loaded")
def test_text_that_is_too_long_is_not_even_decoded() -> None:
    assert "too long" in refusal(pem(b"\x30" * 100_000))
