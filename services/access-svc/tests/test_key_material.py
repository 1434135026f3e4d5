"""Which private half of a generated pair is read back, and that everything else is refused before a library sees it."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from access_svc.deploykey import material
from codecommon.api.access import DeployKey
from codecommon.api.results import Ready, Terminal
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostRepository
from codecommon.testing.builders import deploy_key_object
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import NAMESPACE, World

HEAD, TAIL = "-----BEGIN OPENSSH PRIVATE KEY-----\n", "-----END OPENSSH PRIVATE KEY-----\n"


def text(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    form: PrivateFormat = PrivateFormat.OpenSSH,
) -> str:
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()


def string(value: bytes) -> bytes:
    return len(value).to_bytes(4) + value


def openssh(*, algorithm: bytes = b"ssh-ed25519", keys: int = 1, cipher: bytes = b"none", bulk: int = 32) -> str:
    """A private key file whose head says that; ``bulk``: bytes of its public half."""
    public = string(algorithm) + string(b"A" * bulk)
    head = b"openssh-key-v1\0" + string(cipher) + string(cipher) + string(b"") + keys.to_bytes(4)
    return HEAD + base64.encodebytes(head + string(public) + string(b"B" * 200)).decode() + TAIL


def nasty() -> dict[str, str]:
    own = ed25519.Ed25519PrivateKey.generate()
    whole = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "RSA": text(whole),
        "RSA in PEM": text(whole, PrivateFormat.TraditionalOpenSSL),
        "RSA of 15 KB": openssh(algorithm=b"ssh-rsa", bulk=15_000),
        "ECDSA": text(ec.generate_private_key(ec.SECP256R1())),
        "with a passphrase": openssh(cipher=b"aes256-ctr"),
        "in PKCS#8": text(own, PrivateFormat.PKCS8),
        "two keys": openssh(keys=2),
        "a longer public half": openssh(bulk=3_000),
        "1 MB": HEAD + "A" * 1_000_000 + TAIL,
        "1 MB of line ends": HEAD + "\n" * 1_000_000 + TAIL,
        "not base64": HEAD + "?" * 100 + TAIL,
        "not ASCII": HEAD + "é" * 100 + TAIL,
        "cut": material.generate().private.reveal()[:200],
        "only the head": HEAD,
        "a public key": material.generate().public,
        "a line end": "\n",
        "nothing": "",
    }


NASTY = nasty()


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the library was asked to load."""
    seen: list[str] = []
    load = serialization.load_ssh_private_key

    def watched(data: bytes, password: None) -> object:
        seen.append(data.decode())
        return load(data, password)

    monkeypatch.setattr(serialization, "load_ssh_private_key", watched)
    return seen


@pytest.mark.parametrize("kind", NASTY)
def test_no_other_key_is_read_back_and_no_library_sees_it(kind: str, loaded: list[str]) -> None:
    assert material.public_half(NASTY[kind]) is None
    assert loaded == []


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_a_generated_private_half_is_read_back(ending: str) -> None:
    pair = material.generate()
    assert material.public_half(pair.private.reveal().rstrip() + ending) == pair.public
    assert material.public_half(pair.private.reveal().replace("\n", "\r\n")) == pair.public


def test_a_private_half_that_is_damaged_behind_its_head_is_no_key() -> None:
    assert material.public_half(openssh()) is None


@pytest.mark.parametrize("entry", ["ssh-privatekey", "ssh-publickey", "next-ssh-privatekey"])
@pytest.mark.parametrize("kind", ["RSA", "1 MB", "with a passphrase"])
async def test_what_somebody_puts_into_the_secret_of_a_pair_costs_nothing_and_is_mended(
    world: World,
    keys: Controller[DeployKey],
    host: StubBackend,
    site: HostRepository,
    loaded: list[str],
    kind: str,
    entry: str,
) -> None:
    world.add(deploy_key_object())
    await world.reconcile(keys, "key")
    encoded = base64.b64encode(NASTY[kind].encode()).decode()
    world.kcp.edit("secrets", "deploykey-key", {"data": {entry: encoded}}, namespace=NAMESPACE)
    assert isinstance(await world.reconcile(keys, "key"), Ready)
    assert NASTY[kind] not in loaded
    secret = world.kcp.stored("secrets", "deploykey-key", namespace=NAMESPACE)
    assert secret is not None
    stored = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    (public,) = (key.key for key in host.repositories[site.id].keys.values())
    assert material.public_half(stored["ssh-privatekey"]) == material.given_by(stored["ssh-publickey"]) == public


@pytest.mark.parametrize("given", ["ssh-ed25519 " + "A" * 100_000, "\n" * 100_000, "ssh-rsa " * 100_000])
def test_a_public_key_that_is_too_long_is_refused_by_its_length(given: str) -> None:
    with pytest.raises(Terminal, match="longer than") as refused:
        material.normalised(given)
    assert refused.value.reason == "InvalidPublicKey"


def test_the_longest_public_key_that_the_schema_admits_is_read() -> None:
    key = base64.b64encode(string(b"ssh-rsa") + string(b"\1\0\1") + string(b"\1" * 2048)).decode()
    assert material.normalised(f"ssh-rsa {key}") == f"ssh-rsa {key}"
