"""``make bench-mcp``: how fast the gateway lists and calls tools, beside the bare MCP SDK with the same table.

Nothing is asserted. Both servers are processes of their own and are measured in turn, a second each. Requests come from this
process over raw sockets: it sends bytes that were made once and reads as many as the answer's head says. The last rows show what
it can do at most, so that one sees that it is not what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
import yaml
from bed import row, say
from mcp_peers import CLUSTER

from devstack.devhub import federation
from devstack.environment import inherited
from devstack.ports import LOOPBACK
from devstack.processes import Process

CLIENTS = (1, 16)
TURN_SECONDS = 1.0
ANSWER_SECONDS = 30.0
GOAL_PAIR = "goal: p99 below 50 ms"
GO_PROVIDER = "Go provider: 502/s, p99 128 ms"


def request(method: str, params: Any) -> bytes:
    """What the hub's aggregate sends."""
    body = federation.request_body(method, params)
    headers = federation.request_headers("caller-token", CLUSTER, len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body


INITIALIZE = request("initialize", federation.INITIALIZE)
LIST = request("tools/list", {})
CALL = request("tools/call", {"name": "list_connections", "arguments": {}})
SCENARIOS = {"tools/list": [LIST], "initialize + tools/list": [INITIALIZE, LIST], "tools/call": [CALL]}


class Client(asyncio.Protocol):
    """One connection that sends one request after the other."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the server has closed the connection"))

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        """Resolves to the body of the answer."""
        self._answer, self._missing = bytearray(), -1
        self._done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._missing < 0:
            head, end, _ = self._answer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 200 "):
                self._done.set_exception(RuntimeError(bytes(self._answer[:500]).decode(errors="replace")))
                return
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._missing = len(head) + 4 + int(length)
        if len(self._answer) >= self._missing:
            self._done.set_result(bytes(self._answer))

    def close(self) -> None:
        self._transport.close()


@dataclass
class Figures:
    """``waits``: seconds of each round of requests. ``seconds``: how long all of it took."""

    waits: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.waits) / self.seconds

    def milliseconds(self, quantile: float) -> float:
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))] * 1000

    def __str__(self) -> str:
        return f"{self.rate:7.0f}/s  p50 {self.milliseconds(0.5):6.2f}  p99 {self.milliseconds(0.99):6.2f} ms"


async def turn(port: int, requests: Sequence[bytes], clients: int, figures: Figures, seconds: float) -> None:
    """``clients`` at once send ``requests`` again and again, each after the answer to the one before."""
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(Client, LOOPBACK, port))[1] for _ in range(clients)]
    started = time.perf_counter()

    async def work(client: Client) -> None:
        while (began := time.perf_counter()) < started + seconds:
            for one in requests:
                await client.ask(one)
            figures.waits.append(time.perf_counter() - began)

    # One bound for all of them: a timer for each request would be measured, too.
    async with asyncio.timeout(seconds + ANSWER_SECONDS):
        await asyncio.gather(*map(work, connections))
    figures.seconds += time.perf_counter() - started
    for client in connections:
        client.close()


async def check(port: int, name: str) -> None:
    """The answers are those that are meant to be measured."""
    client = (await asyncio.get_running_loop().create_connection(Client, LOOPBACK, port))[1]
    for one in (INITIALIZE, LIST, CALL):
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = json.loads((await client.ask(one)).partition(b"\r\n\r\n")[2])
        if "result" not in answer or answer["result"].get("isError"):
            raise SystemExit(f"{name} answers {answer}")
    client.close()


@asynccontextmanager
async def process(folder: Path, name: str, *arguments: str, **environ: str) -> AsyncIterator[int]:
    """Yields the port that the process listens on."""
    log = folder / f"{name}.log"
    async with Process(
        name, [sys.executable, *arguments], log_file=log, env={**inherited(os.environ), **environ}
    ) as started:
        yield int((await started.line(r"listening on port (\d+)", timeout=60))[1])


def kubeconfig(folder: Path, port: int) -> Path:
    cluster = {"server": f"https://{LOOPBACK}:{port}/clusters/p1", "insecure-skip-tls-verify": True}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "provider-token"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


async def measure(folder: Path, turns: int) -> None:
    peers = str(Path(__file__).with_name("mcp_peers.py"))
    quiet = {"CODE_GATEWAY_HOST": LOOPBACK, "PORT": "0", "CODE_HEALTH_PORT": "0", "CODE_CALLER_LIMIT": "1000000/second"}
    async with process(folder, "kcp", peers, "kcp", str(folder)) as kcp, process(folder, "idle", peers, "kcp") as idle:
        config = kubeconfig(folder, kcp)
        async with (
            process(folder, "gateway", "-m", "gateway", KEDGE_PROVIDER_KUBECONFIG=str(config), **quiet) as ours,
            process(folder, "bare", peers, "bare", str(config)) as bare,
        ):
            for port, name in ((ours, "the gateway"), (bare, "the bare SDK")):
                await check(port, name)
                await turn(port, SCENARIOS["tools/list"], 4, Figures(), TURN_SECONDS)
            for name, requests in SCENARIOS.items():
                for clients in CLIENTS:
                    found = {ours: Figures(), bare: Figures()}
                    for _ in range(turns):
                        for port, figures in found.items():
                            await turn(port, requests, clients, figures, TURN_SECONDS)
                    ratio = f"{found[ours].rate / found[bare].rate:.2f} x"
                    goal = GOAL_PAIR if len(requests) > 1 else GO_PROVIDER if name == "tools/list" else ""
                    row(f"{name}, {clients} client(s)", f"{found[ours]} {ratio:>8}", f"{found[bare]}", goal)
        for clients in CLIENTS:
            most = Figures()
            await turn(idle, [b"GET / HTTP/1.1\r\n\r\n"], clients, most, TURN_SECONDS)
            row(f"this load generator at most, {clients} client(s)", f"{most}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="seconds for each server and row")
    arguments = parser.parse_args()
    say(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; all processes share them")
    row("", "gateway, and its ratio to the bare SDK", "bare SDK")
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(measure(Path(folder), arguments.turns))


if __name__ == "__main__":
    main()
