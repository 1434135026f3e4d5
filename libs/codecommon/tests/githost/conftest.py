"""A git host that says exactly what a test scripts, byte for byte: for answers and breakdowns no well-behaved server gives."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DATE = "Mon, 23 Nov 2026 12:00:00 GMT"


@dataclass(frozen=True, slots=True)
class Seen:
    """A request; ``connection`` counts the TCP connections from 0."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class ScriptedHost:
    """``script`` holds what to send for each request in turn. Bytes that end a response early, or none, end the connection;
    None sends nothing and waits."""

    port: int = 0
    script: deque[bytes | None] = field(default_factory=deque)
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    tls: bool = False

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.name}"

    def answer(self, status: int, body: object = None, **headers: str) -> None:
        """Script a whole JSON answer; header names are written with ``_`` for ``-``."""
        self.script.append(whole(status, json.dumps(body).encode(), **headers))

    def send(self, *raw: bytes | None) -> None:
        self.script.extend(raw)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self.connections
        self.connections += 1
        self.open += 1
        try:
            while head := await _head(reader):
                method, target, headers = head
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.seen.append(Seen(method, target, headers, body, connection))
                raw = self.script.popleft()
                if raw is None:
                    await reader.read()
                    return
                writer.write(raw)
                await writer.drain()
                if not is_whole(raw):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self.open -= 1
            writer.close()


def whole(status: int, body: bytes, **headers: str) -> bytes:
    fields = {"Date": DATE, "Content-Type": "application/json", "Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def is_whole(raw: bytes) -> bool:
    head, separator, body = raw.partition(b"\r\n\r\n")
    return bool(separator) and f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]] | None:
    line = (await reader.readline()).decode()
    if not line:
        return None
    method, target, _ = line.split(" ", 2)
    headers: dict[str, str] = {}
    while (line := (await reader.readline()).decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return method, target, headers


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedHost]:
    host = ScriptedHost(tls=tls is not None)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(host.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    host.port = server.sockets[0].getsockname()[1]
    yield host
    server.close()
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.wait_closed()


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedHost]:
    async with serving() as host:
        yield host


@dataclass(frozen=True, slots=True)
class Private:
    """A host whose certificate an authority of its own has signed; ``stranger``: another authority's certificate. PEM."""

    host: ScriptedHost
    token_source: str
    stranger: str

    def another(self, number: int) -> str:
        return _authority(f"authority {number}")[0]


@pytest.fixture
async def private(tmp_path: Path) -> AsyncIterator[Private]:
    token_source, key = _authority("authority and host")
    file = tmp_path / "host.pem"
    file.write_text(token_source + key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    async with serving(context) as host:
        yield Private(host, token_source, _authority("stranger")[0])


def _authority(common_name: str) -> tuple[str, str]:
    """Certificate and key, PEM, of an authority that is also the host 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoded_key = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), encoded_key.decode()
