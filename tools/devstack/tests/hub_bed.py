"""A development hub without kcp: what stands behind it is a stub that notes the bytes of each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from devstack.devhub import DevHub
from devstack.devhub.certificate import trusting_context
from devstack.devhub.tenancy import Workspace
from devstack.kcp import Kcp
from devstack.ports import LOOPBACK
from devstack.static_users import STATIC_USERS

ALICE, BOB, MALLORY = STATIC_USERS[:3]
BOUND_SECONDS = 10.0

Respond = Callable[["Received"], bytes]


@dataclass(frozen=True)
class Received:
    """One request: its head as it came, and its body."""

    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n")[0].decode()

    @property
    def header_lines(self) -> list[str]:
        return self.head.decode().split("\r\n")[1:]

    def header(self, name: str) -> str | None:
        values = [line.partition(": ")[2] for line in self.header_lines if line.lower().startswith(f"{name.lower()}:")]
        return ", ".join(values) if values else None


def answer(body: bytes = b"ok", *, status: str = "200 OK", headers: str = "Content-Type: text/plain\r\n") -> bytes:
    head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@dataclass
class Upstream:
    """A server on bare sockets. `respond` makes the answer; `stream` takes over the connection instead."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    respond: Respond = lambda received: answer()
    stream: Callable[[asyncio.StreamWriter], Any] | None = None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
            received = Received(head, await _body(reader, head))
            self.requests.append(received)
            if self.stream is not None:
                await self.stream(writer)
            else:
                writer.write(self.respond(received))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @property
    def last(self) -> Received:
        return self.requests[-1]


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        whole = b""
        while size := int(await reader.readline(), 16):
            whole += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return whole
    _, found, rest = lower.partition(b"content-length: ")
    return await reader.readexactly(int(rest.split(b"\r\n")[0])) if found else b""


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    server = await asyncio.start_server(made.handle, LOOPBACK, 0)
    async with server:
        made.url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        yield made
        server.close()


@dataclass
class Bed:
    """`team` has Alice as its only member. `provider` serves UI and backend of ``code``, `kcp` stands for the control plane."""

    hub: DevHub
    client: aiohttp.ClientSession
    provider: Upstream
    kcp: Upstream
    team: Workspace

    def register(self, name: str = "code", **spec: Any) -> None:
        both = {"displayName": "Code", "ui": {"url": self.provider.url}, "backend": {"url": self.provider.url}}
        self.hub.registry.upsert({"metadata": {"name": name}, "spec": both | spec})

    def as_alice(self, **more: str) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {ALICE.token}",
            "X-Kedge-Org": self.team.organization.uuid,
            "X-Kedge-Workspace": self.team.uuid,
            **more,
        }

    async def raw(self, request: bytes) -> bytes:
        """The whole answer of the hub to the very bytes of a request, which closes its connection."""
        async with asyncio.timeout(BOUND_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, self.hub.port, ssl=trusting_context())
            writer.write(request)
            whole = await reader.read()
            writer.close()
        return whole


@asynccontextmanager
async def hub_bed(folder: Path) -> AsyncIterator[Bed]:
    async with upstream() as provider, upstream() as control_plane:
        config = folder / "kubeconfig"
        config.write_text(yaml.safe_dump(_kubeconfig(control_plane.url)))
        async with Kcp(folder / "kcp", kubeconfig=config) as kcp, DevHub(kcp, folder / "devhub") as hub:
            organization = hub.tenancy.organization("acme")
            team = hub.tenancy.add_workspace(organization, "team", identifier="team-uuid", cluster="2team")
            hub.tenancy.join(ALICE, organization, team)
            connector = aiohttp.TCPConnector(ssl=trusting_context())
            timeout = aiohttp.ClientTimeout(total=BOUND_SECONDS)
            async with aiohttp.ClientSession(hub.url, connector=connector, timeout=timeout) as client:
                bed = Bed(hub, client, provider, control_plane, team)
                bed.register()
                control_plane.requests.clear()
                yield bed


def _kubeconfig(url: str) -> dict[str, Any]:
    return {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": {"server": f"{url}/clusters/root"}}],
        "users": [{"name": "it", "user": {"token": "administrator"}}],
    }
