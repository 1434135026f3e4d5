"""A self-signed certificate for the hub, so that its clients go through TLS as they do in production."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from devstack.kubeconfig import write_private
from devstack.ports import LOOPBACK

LIFETIME = timedelta(days=30)


def server_context(folder: Path) -> ssl.SSLContext:
    """A TLS context with a new key and certificate for the loopback address, both kept in `folder`."""
    key, certificate = key_and_certificate()
    path = write_private(folder / "devhub.pem", key + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def key_and_certificate(*names: str) -> tuple[str, str]:
    """A new key and its certificate for the loopback address and `names`, both in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "devhub")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
        .add_extension(
            x509.SubjectAlternativeName(
                [*map(x509.DNSName, ("localhost", *names)), x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


def trusting_context() -> ssl.SSLContext:
    """A TLS context for clients of the hub: it verifies nothing, as ``insecure-skip-tls-verify`` in a kubeconfig."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
