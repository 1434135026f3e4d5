"""A git host that says exactly what a test scripts, byte for byte: for answers and breakdowns no well-behaved server gives."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

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

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.name}"

    def answer(self, status: int, body: object = None, **headers: str) -> None:
        """Script a whole JSON answer; header names are written with ``_`` for ``-``."""
        self.script.append(whole(status, json.dumps(body).encode(), **headers))

    def send(self, *raw: bytes | None) -> None:
        self.script.extend(raw)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = self.connections
        self.connections += 1
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


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedHost]:
    host = ScriptedHost()
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(host.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    host.port = server.sockets[0].getsockname()[1]
    yield host
    server.close()
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.wait_closed()
