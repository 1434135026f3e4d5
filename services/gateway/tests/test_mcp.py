"""MCP over a real socket: as the hub's aggregate calls, and as the official client does."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx2
import pytest
import uvicorn
from aiohttp import web
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from codecommon.api.kinds import CONNECTIONS
from codecommon.api.meta import Workspace
from codecommon.kcp.kubeconfig import ApiServer, KubeconfigError
from codecommon.process.health import Readiness
from codecommon.process.service import CannotRun
from gateway import time_limits
from gateway.caller_limits import CallerLimits
from gateway.http_protocol import BoundedHttp
from gateway.mcp_server import made_once, server
from gateway.mcp_server.endpoint import McpEndpoint
from gateway.mcp_server.server import ToolServer
from gateway.mcp_settings import McpSettings
from gateway.mcp_tools.table import tools
from gateway.mcp_tools.tool import Call, Tool, ToolError
from gateway.routes import build_app
from gateway.settings import GatewaySettings

CLUSTER = "2x5yknxhwy4dkw5f"
IDENTITY = {"X-Kedge-Tenant": CLUSTER, "X-Kedge-Cluster": CLUSTER, "Authorization": "Bearer caller-token"}
ACCEPT = {"Accept": "application/json, text/event-stream"}
BOUND_SECONDS = 20
NEWEST_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass
class Kcp:
    """Answers every request with ``answer``, and remembers path and bearer."""

    answer: tuple[int, dict[str, Any]] = (200, {"kind": "Connection", "metadata": {"name": "site"}})
    asked: list[tuple[str, str]] = field(default_factory=list)
    server: ApiServer | None = None
    gate: asyncio.Event | None = None

    async def find(self) -> ApiServer:
        if self.server is None:
            raise KubeconfigError("/etc/kubeconfig: there is no such file")
        return self.server

    async def respond(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers.get("Authorization", "")))
        if self.gate is not None:
            await self.gate.wait()
        status, body = self.answer
        return web.json_response(body, status=status)


@pytest.fixture
async def kcp() -> AsyncIterator[Kcp]:
    kcp = Kcp()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", kcp.respond)
    runner = web.AppRunner(app)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await web.SockSite(runner, listener).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/clusters/provider"
        kcp.server = ApiServer(url, ssl.create_default_context())
        try:
            yield kcp
        finally:
            await runner.cleanup()


@dataclass
class Writes:
    """What the write tool of the tests has begun and done."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    both_begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def handler(self, call: Call) -> dict[str, Any]:
        if self.begun.is_set():
            self.both_begun.set()
        self.begun.set()
        await self.go_on.wait()
        self.done.set()
        return {"done": True}


@pytest.fixture
def writes() -> Writes:
    return Writes()


async def echo(call: Call) -> dict[str, Any]:
    return {"text": call.arguments.get("text", ""), "nothing": None, "user": call.user, "client": call.client}


async def read(call: Call) -> dict[str, Any]:
    return await call.objects.get("connections", "site")


async def parse(call: Call) -> dict[str, Any]:
    CONNECTIONS.model.parse(await read(call), Workspace("", ""))
    return {}


async def fail(call: Call) -> dict[str, Any]:
    if call.arguments.get("text") == "a sentence":
        raise ToolError("Do it otherwise.")
    raise RuntimeError("a detail that is nobody's business")


def tool(name: str, handler: Callable[[Call], Awaitable[dict[str, Any]]], *, read_only: bool = True) -> Tool:
    return Tool(
        name=name,
        title=name.title(),
        description=f"The tool {name}, für Tests.",
        input_schema={
            "type": "object",
            "properties": {
                "text": {"type": "string", "maxLength": 100_000},
                "keys": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"title": {"type": "string"}},
                        "additionalProperties": False,
                    },
                },
                "count": {"type": "integer", "default": 1},
                "plan": {"type": "boolean"},
            },
            "additionalProperties": False,
        },
        output_schema={"type": "object"},
        handler=handler,
        annotations={"readOnlyHint": read_only},
    )


@pytest.fixture
def table(writes: Writes) -> Sequence[Tool]:
    return [
        tool("echo", echo),
        tool("read", read),
        tool("parse", parse),
        tool("fail", fail),
        tool("write", writes.handler, read_only=False),
    ]


Serve = Callable[..., Any]


@pytest.fixture
def serve(kcp: Kcp, table: Sequence[Tool]) -> Serve:
    """``async with serve(**settings) as port``: the gateway on a port of the loopback interface."""

    @asynccontextmanager
    async def serve(**environ: str) -> AsyncIterator[int]:
        settings = GatewaySettings.load(environ)
        tools = ToolServer(table, settings, kcp.find, CallerLimits(settings.caller_rate))
        async with McpEndpoint(tools, settings.most_mcp_body_bytes) as endpoint:
            app = build_app(Readiness(), settings=settings, routes=endpoint.routes())
            server = uvicorn.Server(uvicorn.Config(app, http=BoundedHttp, ws="none", lifespan="off", log_config=None))
            with socket.create_server(("127.0.0.1", 0)) as listener:
                serving = asyncio.create_task(server._serve([listener]))
                try:
                    yield listener.getsockname()[1]
                finally:
                    server.should_exit = True
                    await serving

    return serve


@pytest.fixture
async def port(serve: Serve) -> AsyncIterator[int]:
    # The SDK wants to be left by the task that entered it, and pytest-asyncio tears down in another one.
    ports: asyncio.Queue[int] = asyncio.Queue()
    over = asyncio.Event()

    async def hold() -> None:
        async with serve() as port:
            ports.put_nowait(port)
            await over.wait()

    holding = asyncio.create_task(hold())
    yield await ports.get()
    over.set()
    await holding


Exchange = Callable[[bytes], Awaitable[tuple[bytes, bytes]]]


@asynccontextmanager
async def one_connection(port: int) -> AsyncIterator[Exchange]:
    """``await exchange(request)``: the head and the body of the answer to the very bytes of a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def exchange(request: bytes) -> tuple[bytes, bytes]:
        async with asyncio.timeout(BOUND_SECONDS):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
            assert length, head
            return head, await reader.readexactly(int(length[1]))

    try:
        yield exchange
    finally:
        writer.close()


async def raw(port: int, request: bytes) -> tuple[bytes, bytes]:
    """The head and the body of the answer to one request."""
    async with one_connection(port) as exchange:
        return await exchange(request)


def aggregate_request(method: str, params: str) -> bytes:
    """What the hub's aggregate sends, byte for byte as Go's net/http and encoding/json write it.

    There is no initialize, no session and no protocol version. The id is always 1, and the Host has no port.
    """
    body = f'{{"id":1,"jsonrpc":"2.0","method":"{method}","params":{params}}}'.encode()
    return (
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Go-http-client/1.1\r\n"
        b"Content-Length: %d\r\nAccept: application/json, text/event-stream\r\nAuthorization: Bearer caller-token\r\n"
        b"Content-Type: application/json\r\nX-Kedge-Cluster: 2x5yknxhwy4dkw5f\r\nX-Kedge-Tenant: 2x5yknxhwy4dkw5f\r\n"
        b"Accept-Encoding: gzip\r\n\r\n" % len(body)
    ) + body


AGGREGATE_INITIALIZE = aggregate_request(
    "initialize",
    '{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"kedge-aggregate","version":"v1"}}',
)
AGGREGATE_LIST = aggregate_request("tools/list", "{}")
AGGREGATE_CALL = aggregate_request("tools/call", '{"arguments":{"text":"\\u003chello\\u003e"},"name":"echo"}')


async def post(
    port: int,
    method: str,
    params: Any = None,
    *,
    path: str = "/mcp",
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Any:
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}, **more}
    async with (
        aiohttp.ClientSession(headers=ACCEPT) as session,
        session.post(f"http://127.0.0.1:{port}{path}", json=body, headers=headers or {}) as response,
    ):
        assert response.status == 200, await response.text()
        assert response.content_type == "application/json"
        return await response.json()


async def call(
    port: int, name: str, arguments: Any = None, headers: dict[str, str] | None = None, path: str = "/mcp"
) -> Any:
    params = {"name": name, "arguments": arguments or {}}
    return (await post(port, "tools/call", params, headers=IDENTITY if headers is None else headers, path=path))[
        "result"
    ]


async def names(port: int, headers: dict[str, str] | None = None) -> list[str]:
    return [tool["name"] for tool in (await post(port, "tools/list", headers=headers))["result"]["tools"]]


def error_text(result: Any) -> str:
    assert result["isError"] is True
    assert [block["type"] for block in result["content"]] == ["text"]
    return result["content"][0]["text"]


# The hub's aggregate


async def test_the_aggregates_initialize_is_answered_without_a_session(port: int) -> None:
    head, body = await raw(port, AGGREGATE_INITIALIZE)

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"mcp-session-id" not in head.lower()
    result = json.loads(body)["result"]
    assert result["protocolVersion"] == "2025-06-18"
    assert result["serverInfo"]["name"] == "kedge-code"
    assert "instructions" in result


async def test_the_aggregate_lists_without_initialize_and_gets_the_same_bytes_each_time(port: int, kcp: Kcp) -> None:
    async with one_connection(port) as exchange:
        answers = [await exchange(AGGREGATE_LIST) for _ in range(3)]

    heads, bodies = zip(*answers, strict=True)
    assert all(head.startswith(b"HTTP/1.1 200 OK\r\n") and b"application/json" in head for head in heads)
    assert len(set(bodies)) == 1
    answer = json.loads(bodies[0])
    assert answer["id"] == 1
    assert [tool["name"] for tool in answer["result"]["tools"]] == ["echo", "read", "parse", "fail", "write"]
    assert all(tool["inputSchema"]["type"] == "object" for tool in answer["result"]["tools"])
    assert "nextCursor" not in answer["result"]
    assert kcp.asked == []


async def test_the_aggregate_calls_and_reads_one_text_block_that_is_the_structured_content(port: int) -> None:
    head, body = await raw(port, AGGREGATE_CALL)

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    result = json.loads(body)["result"]
    assert result["isError"] is False
    assert len(result["content"]) == 1
    expected = {"text": "<hello>", "nothing": None, "user": "", "client": "User-Agent Go-http-client/1.1"}
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"] == expected


async def test_the_aggregates_requests_share_a_connection_and_each_gets_one_plain_json_document(port: int) -> None:
    async with one_connection(port) as exchange:
        answers = [await exchange(request) for request in (AGGREGATE_INITIALIZE, AGGREGATE_LIST, AGGREGATE_CALL) * 2]

    for head, body in answers:
        assert re.search(rb"(?i)\r\ncontent-type: application/json\r\n", head)
        # The aggregate accepts gzip because Go's client does. It is not needed, and compressing takes time.
        assert b"content-encoding" not in head.lower()
        answer = json.loads(body)
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", 1)
        assert "result" in answer


async def test_white_space_around_a_header_is_not_part_of_it(port: int, kcp: Kcp) -> None:
    body = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "read", "arguments": {}, "_meta": NEWEST_META},
        }
    ).encode()
    request = (
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nAccept: application/json, text/event-stream\r\n"
        b"Content-Type: application/json\r\nMCP-Protocol-Version: 2026-07-28 \r\nMcp-Method: tools/call\t\r\n"
        b"Mcp-Name:   read   \r\nAuthorization: Bearer caller-token\r\nX-Kedge-Tenant: %b\r\nX-Kedge-Cluster: %b  \r\n\r\n"
        % (len(body), CLUSTER.encode(), CLUSTER.encode())
    ) + body
    head, answer = await raw(port, request)

    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), answer
    assert [path.split("/")[2] for path, _ in kcp.asked] == [CLUSTER]


@pytest.mark.parametrize("header", ["Authorization: Bearer caller-token", "X-Kedge-Cluster: 2x5yknxhwy4dkw5f"])
async def test_the_aggregate_reads_a_refusal_in_a_result_because_it_drops_providers_that_answer_404_or_405(
    port: int, header: str
) -> None:
    head, body = await raw(port, AGGREGATE_CALL.replace(f"{header}\r\n".encode(), b""))

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert "identity" in error_text(json.loads(body)["result"])


VERSIONS = ["2025-03-26", "2025-06-18", "2025-11-25"]


@pytest.mark.parametrize(
    ("method", "params", "headers"),
    [
        ("tools/list", {}, {}),
        *[("tools/list", {}, {"MCP-Protocol-Version": version}) for version in VERSIONS],
        *[
            (
                "initialize",
                {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}},
                {},
            )
            for version in VERSIONS
        ],
    ],
)
@pytest.mark.parametrize("number", [1, "é"])
async def test_what_is_made_once_is_what_the_sdk_answers(
    port: int, method: str, params: Any, headers: Any, number: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = await post(port, method, params, headers=headers, id=number)
    assert ours["id"] == number
    monkeypatch.setattr(made_once, "LONGEST_REQUEST", 0)

    assert await post(port, method, params, headers=headers, id=number) == ours


@pytest.mark.parametrize("protocol", ["2026-07-28", "rubbish"])
async def test_an_initialize_for_a_revision_without_handshake_is_answered_with_the_latest_that_has_one(
    port: int, protocol: str
) -> None:
    params = {"protocolVersion": protocol, "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}

    assert (await post(port, "initialize", params))["result"]["protocolVersion"] == "2025-11-25"


async def test_mcp_sse_is_the_same_handler(port: int) -> None:
    assert (await call(port, "echo", {"text": "a"}, path="/mcp/sse"))["structuredContent"]["text"] == "a"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_there_is_no_stream_and_no_session_to_get_or_delete(port: int, method: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{port}/mcp", headers=ACCEPT) as response,
    ):
        assert (response.status, response.headers["Allow"]) == (405, "POST")


# The official client


@asynccontextmanager
async def official_client(port: int, mode: Any) -> Any:
    async with (
        httpx2.AsyncClient(headers=IDENTITY) as http,
        Client(streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.mark.parametrize(("mode", "protocol"), [("legacy", "2025-11-25"), ("auto", "2026-07-28")])
async def test_the_official_client_lists_and_calls(port: int, mode: str, protocol: str) -> None:
    async with official_client(port, mode) as client:
        listed = await client.list_tools()
        result = await client.call_tool("echo", {"text": "hello"})
        refused = await client.call_tool("echo", {"txet": "hello"})
        spoken = client.protocol_version

    assert spoken == protocol
    assert [tool.name for tool in listed.tools] == ["echo", "read", "parse", "fail", "write"]
    assert result.structured_content["text"] == "hello"
    assert refused.is_error


async def test_a_list_of_the_newest_protocol_says_how_long_it_is_fresh(port: int) -> None:
    async with official_client(port, "auto") as client:
        listed = await client.list_tools()

    assert (listed.ttl_ms, listed.cache_scope) == (300_000, "private")


@pytest.mark.parametrize(("mode", "known"), [("auto", r"mcp"), ("legacy", r"User-Agent python-httpx.*")])
async def test_the_client_is_known_by_name_where_the_protocol_says_it_and_else_by_its_user_agent(
    port: int, mode: str, known: str
) -> None:
    async with official_client(port, mode) as client:
        result = await client.call_tool("echo", {})

    assert re.fullmatch(known, result.structured_content["client"])


async def test_nothing_is_known_of_a_client_that_says_nothing(port: int) -> None:
    _, body = await raw(port, AGGREGATE_CALL.replace(b"User-Agent: Go-http-client/1.1\r\n", b""))

    assert json.loads(body)["result"]["structuredContent"]["client"] == ""


async def test_a_user_agent_is_bounded_and_holds_no_secret(port: int) -> None:
    agent = "ghp_" + "a" * 36 + " x" * 2000

    client = (await call(port, "echo", headers={**IDENTITY, "User-Agent": agent}))["structuredContent"]["client"]

    assert client.startswith("User-Agent ")
    assert "ghp_a" not in client
    assert len(client) <= 128


# Batches


async def send_batch(port: int, messages: Any, version: str = "") -> tuple[int, Any]:
    headers = {**ACCEPT, **IDENTITY, **({"MCP-Protocol-Version": version} if version else {})}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"http://127.0.0.1:{port}/mcp", json=messages) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text else None


def message(method: str, number: Any = None, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params, **({} if number is None else {"id": number})}


@pytest.mark.parametrize("version", ["", "2025-03-26"])
async def test_a_batch_of_the_revision_that_has_them_is_answered_with_one_array(port: int, version: str) -> None:
    batch = [
        message("tools/call", 1, name="echo", arguments={"text": "a"}),
        message("notifications/initialized"),
        message("tools/list", "two"),
        message("no/such/method", 3),
        message("ping", 4),
    ]

    code, answers = await send_batch(port, batch, version)

    assert code == 200
    assert [answer["id"] for answer in answers] == [1, "two", 3, 4]
    assert answers[0]["result"]["structuredContent"]["text"] == "a"
    assert len(answers[1]["result"]["tools"]) == 5
    assert answers[2]["error"]["code"] == -32601
    assert answers[3]["result"] == {}


async def test_the_calls_of_a_batch_run_at_the_same_time(port: int, writes: Writes) -> None:
    asking = asyncio.create_task(
        send_batch(port, [message("tools/call", 1, name="write"), message("tools/call", 2, name="write")])
    )
    async with asyncio.timeout(BOUND_SECONDS):
        await writes.both_begun.wait()
        writes.go_on.set()
        _, answers = await asking

    assert [answer["result"]["isError"] for answer in answers] == [False, False]


async def test_a_batch_without_requests_has_no_answer(port: int) -> None:
    assert await send_batch(port, [message("notifications/initialized")] * 2) == (202, None)


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25", "2026-07-28"])
async def test_later_revisions_have_no_batches(port: int, kcp: Kcp, version: str) -> None:
    code, answer = await send_batch(port, [message("tools/call", 1, name="read")], version)

    assert code == 400
    assert "error" in answer
    assert kcp.asked == []


@pytest.mark.parametrize("batch", [[message("ping", n) for n in range(11)], [message("ping", 1, a="x" * (64 << 10))]])
async def test_a_batch_over_its_bounds_is_refused_in_words(port: int, batch: Any) -> None:
    code, answer = await send_batch(port, batch)

    assert code == 400
    assert "at most 10 messages and 65536 bytes" in answer["error"]["message"]


@pytest.mark.parametrize("batch", [[1, None, []], [[message("ping", 1)]]])
async def test_a_batch_of_what_is_no_request_is_a_client_error(port: int, batch: Any) -> None:
    code, answers = await send_batch(port, batch)

    assert code == 400
    assert all("error" in answer for answer in answers)


async def test_each_call_of_a_batch_counts_for_the_callers_rate(serve: Serve) -> None:
    async with serve(CODE_CALLER_LIMIT="2/minute") as port:
        _, answers = await send_batch(port, [message("tools/call", n, name="echo") for n in range(4)])

    assert sorted(answer["result"]["isError"] for answer in answers) == [False, False, True, True]


# Arguments


async def test_an_unknown_argument_is_refused_with_the_nearest_known_name(port: int, kcp: Kcp) -> None:
    text = error_text(await call(port, "read", {"txet": "a-value"}))

    assert "no argument 'txet'; did you mean 'text'?" in text
    assert "a-value" not in text
    assert kcp.asked == []


async def test_a_token_in_an_argument_is_refused_with_advice_and_not_logged(
    port: int, kcp: Kcp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "gateway"):
        text = error_text(await call(port, "read", {"token": "ghp_" + "a" * 36}))

    assert "should be revoked" in text
    assert "ghp_" not in text + caplog.text
    assert kcp.asked == []


async def test_so_is_one_within_a_list(port: int) -> None:
    text = error_text(await call(port, "echo", {"keys": [{"titel": "a"}]}))

    assert "no argument 'titel' in keys.0; did you mean 'title'?" in text


async def test_a_wrong_value_is_named_by_its_argument_and_not_quoted(port: int) -> None:
    text = error_text(await call(port, "echo", {"count": "a-secret-value"}))

    assert "count" in text
    assert "integer" in text
    assert "a-secret-value" not in text


async def test_half_a_character_is_refused_in_words(port: int) -> None:
    params = {"name": "echo", "arguments": {"text": "\ud800"}, "_meta": NEWEST_META}
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "echo", **IDENTITY}

    answer = await post(port, "tools/call", params, headers=headers)

    assert "not valid Unicode" in error_text(answer["result"])


async def test_an_unknown_tool_is_an_error_of_the_protocol(port: int) -> None:
    answer = await post(port, "tools/call", {"name": "ehco", "arguments": {}}, headers=IDENTITY)

    assert answer["error"]["code"] == -32602
    assert "did you mean 'echo'" in answer["error"]["message"]


async def test_a_list_has_no_second_page(port: int) -> None:
    assert (await post(port, "tools/list", {"cursor": "2"}))["error"]["code"] == -32602


# Identity


@pytest.mark.parametrize("missing", [*IDENTITY, "everything"])
async def test_without_identity_nothing_is_asked_of_kcp(port: int, kcp: Kcp, missing: str) -> None:
    headers = {name: value for name, value in IDENTITY.items() if missing not in (name, "everything")}

    text = error_text(await call(port, "read", headers=headers))

    assert "tenant" in text
    assert "bearer token" in text
    assert "identity" in text
    assert kcp.asked == []


@pytest.mark.parametrize("cluster", ["root:kedge:tenants:a", "../a", "*", "A", "a/b", "a" * 64])
async def test_a_cluster_that_is_not_an_id_is_refused_before_anything_is_sent(
    port: int, kcp: Kcp, cluster: str
) -> None:
    text = error_text(await call(port, "read", headers={**IDENTITY, "X-Kedge-Cluster": cluster}))

    assert "not the ID of a logical cluster" in text
    assert kcp.asked == []


async def test_kcp_is_asked_in_the_callers_cluster_with_the_callers_token(port: int, kcp: Kcp) -> None:
    await call(port, "read")
    await call(port, "read", headers={**IDENTITY, "X-Kedge-Cluster": "other", "Authorization": "bearer another"})

    connections = "/apis/code.kedge.faros.sh/v1alpha1/connections/site"
    assert kcp.asked == [
        (f"/clusters/{CLUSTER}{connections}", "Bearer caller-token"),
        (f"/clusters/other{connections}", "Bearer another"),
    ]


async def test_callers_at_the_same_time_each_use_their_own_token_in_their_own_cluster(port: int, kcp: Kcp) -> None:
    async def ask(name: str) -> None:
        await call(port, "read", headers={**IDENTITY, "X-Kedge-Cluster": name, "Authorization": f"Bearer {name}-token"})

    for _ in range(2):
        await asyncio.gather(*(ask(f"caller{number}") for number in range(20)))

    assert len(kcp.asked) == 40
    assert all(bearer == f"Bearer {path.split('/')[2]}-token" for path, bearer in kcp.asked)


async def test_the_query_says_who_calls_only_where_that_is_allowed(serve: Serve, kcp: Kcp) -> None:
    path = f"/mcp?tenant=a&cluster={CLUSTER}&user=me&token=t"
    async with serve(KEDGE_DEV_ALLOW_TENANT_QUERY="True") as port:
        assert "identity" in error_text(await call(port, "read", headers={}, path=path))
    assert kcp.asked == []
    async with serve(KEDGE_DEV_ALLOW_TENANT_QUERY="true") as port:
        assert (await call(port, "echo", headers={}, path=path))["structuredContent"]["user"] == "me"
        await call(port, "read", headers={}, path=path)
    assert [bearer for _, bearer in kcp.asked] == ["Bearer t"]


async def test_the_users_name_reaches_the_tool(port: int) -> None:
    headers = {**IDENTITY, "X-Kedge-User": "static-user-1"}

    assert (await call(port, "echo", headers=headers))["structuredContent"]["user"] == "static-user-1"


# Refusals


def status(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "code": code, "reason": reason, "message": message}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (status(401, "Unauthorized", "Unauthorized"), "does not accept the bearer token"),
        (status(403, "Forbidden", 'User "x" cannot get'), 'no permission .* User "x" cannot get'),
        (status(404, "NotFound", "not found"), "no such object"),
        (status(409, "AlreadyExists", "exists"), "exists already"),
        (status(409, "Conflict", "the object has been modified"), "changed the object at the same time"),
        (status(422, "Invalid", "spec.name: too long"), "refuses these values .* spec.name: too long"),
        (status(429, "TooManyRequests", "slow"), "busy"),
        ((500, {"trace": "secret"}), "status 500"),
    ],
)
async def test_kcps_refusal_is_a_sentence(port: int, kcp: Kcp, answer: Any, says: str) -> None:
    kcp.answer = answer

    text = error_text(await call(port, "read"))

    assert re.search(says, text)
    assert "secret" not in text


async def test_a_tools_own_refusal_is_passed_on(port: int) -> None:
    assert error_text(await call(port, "fail", {"text": "a sentence"})) == "Do it otherwise."


async def test_another_failure_is_one_sentence_and_its_details_are_in_the_log(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        text = error_text(await call(port, "fail"))

    assert "detail" not in text
    assert "the tool fail failed" in caplog.text
    assert "nobody's business" in caplog.text


async def test_an_object_that_no_model_fits_is_a_sentence_and_is_not_in_the_log(
    port: int, kcp: Kcp, caplog: pytest.LogCaptureFixture
) -> None:
    kcp.answer = (200, {"kind": "Connection", "metadata": {"name": "site"}, "spec": {"provider": ["a private word"]}})

    text = error_text(await call(port, "parse"))

    assert "fields of a form" in text
    assert "private" not in text + caplog.text


async def test_without_a_kubeconfig_tools_are_listed_and_a_call_says_what_is_wrong(port: int, kcp: Kcp) -> None:
    kcp.server = None

    assert await names(port) == ["echo", "read", "parse", "fail", "write"]
    text = error_text(await call(port, "read"))
    assert "kubeconfig" in text
    assert "/etc" not in text


async def test_a_kcp_that_is_away_is_a_sentence(port: int, kcp: Kcp, unused_tcp_port: int) -> None:
    assert kcp.server is not None
    kcp.server = type(kcp.server)(f"http://127.0.0.1:{unused_tcp_port}", kcp.server.verification)

    assert "kcp did not answer" in error_text(await call(port, "read"))


@pytest.mark.parametrize("is_away", [True, False], ids=["away", "failing"])
@pytest.mark.parametrize(
    ("name", "arguments", "stores"),
    [
        ("list_repositories", {}, False),
        ("delete_repository", {"name": "site", "plan": True}, False),
        ("delete_repository", {"name": "site"}, True),
        ("validate_connection", {"name": "main", "plan": True}, False),
        ("add_deploy_key", {"name": "new", "repositoryRef": "site"}, True),
    ],
)
async def test_only_a_write_leaves_it_open_whether_something_was_changed(
    kcp: Kcp,
    table: list[Tool],
    serve: Serve,
    unused_tcp_port: int,
    name: str,
    arguments: Any,
    stores: bool,
    is_away: bool,
) -> None:
    table[:] = tools("default", confirm_deletes=False)
    kcp.answer = (503, {})
    if is_away:
        assert kcp.server is not None
        kcp.server = type(kcp.server)(f"http://127.0.0.1:{unused_tcp_port}", kcp.server.verification)

    async with serve() as port:
        text = error_text(await call(port, name, arguments))

    assert ("Read the object before" in text) is stores
    if is_away:
        assert ("not known whether a change arrived" in text) is stores
        assert ("Nothing was changed" in text) is not stores


# Bounds


@pytest.mark.parametrize(
    ("environ", "headers", "expected"),
    [
        ({"CODE_MCP_READ_ONLY": "true"}, {}, ["echo", "read", "parse", "fail"]),
        ({"CODE_MCP_READ_ONLY": "true", "CODE_MCP_TOOLS": "write,echo"}, {}, ["echo"]),
        ({"CODE_MCP_TOOLS": "write, read", "CODE_MCP_EXCLUDE_TOOLS": "read"}, {}, ["write"]),
        ({"CODE_MCP_READ_ONLY": "true"}, {"X-MCP-Readonly": "false"}, ["echo", "read", "parse", "fail"]),
        ({"CODE_MCP_EXCLUDE_TOOLS": "echo"}, {"X-MCP-Tools": "echo,read"}, ["read"]),
        ({}, {"X-MCP-Readonly": "true"}, ["echo", "read", "parse", "fail"]),
        ({}, {"X-MCP-Tools": "write,read,read", "X-MCP-Exclude-Tools": "write"}, ["read"]),
        ({}, {"X-MCP-Tools": "nothing"}, []),
    ],
)
async def test_a_caller_only_narrows_what_the_operator_offers(
    serve: Serve, environ: dict[str, str], headers: dict[str, str], expected: list[str]
) -> None:
    async with serve(**environ) as port:
        assert await names(port, headers) == expected


@pytest.mark.parametrize(
    ("environ", "headers"),
    [
        ({"CODE_MCP_READ_ONLY": "true"}, {}),
        ({"CODE_MCP_EXCLUDE_TOOLS": "write"}, {"X-MCP-Tools": "write"}),
        ({}, {"X-MCP-Readonly": "1"}),
    ],
)
async def test_what_is_not_offered_is_not_called(
    serve: Serve, writes: Writes, environ: dict[str, str], headers: dict[str, str]
) -> None:
    async with serve(**environ) as port:
        assert "switched off" in error_text(await call(port, "write", headers={**IDENTITY, **headers}))
    assert not writes.begun.is_set()


async def test_a_typing_error_in_the_operators_bounds_leaves_no_tool_on(serve: Serve) -> None:
    with pytest.raises(CannotRun, match=r"CODE_MCP_EXCLUDE_TOOLS: there is no tool 'wirte'; did you mean 'write'\?"):
        async with serve(CODE_MCP_EXCLUDE_TOOLS="wirte"):
            pass


# The rate of a caller


async def test_calls_over_the_callers_rate_are_a_tool_error_that_says_how_long_to_wait(serve: Serve, kcp: Kcp) -> None:
    other = {**IDENTITY, "Authorization": "Bearer another"}
    async with serve(CODE_CALLER_LIMIT="2/minute") as port:
        for _ in range(2):
            assert (await call(port, "read"))["isError"] is False
        text = error_text(await call(port, "read"))
        unknown = await call(port, "ehco")
        assert (await call(port, "read", headers=other))["isError"] is False

    said = re.search(r"Nothing was done\. Wait (\d+) seconds and call again", text)
    assert said, text
    assert 1 <= int(said[1]) <= 60
    assert "Wait" in error_text(unknown)
    assert len(kcp.asked) == 3


@pytest.mark.parametrize(
    ("method", "params", "version"),
    [
        (
            "initialize",
            {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}},
            "",
        ),
        ("ping", {}, ""),
        ("tools/list", {}, ""),
        ("tools/list", {"cursor": None}, ""),
        ("tools/list", {}, "2026-07-28"),
        ("server/discover", {}, "2026-07-28"),
    ],
)
async def test_only_calls_of_tools_count(serve: Serve, method: str, params: Any, version: str) -> None:
    headers = dict(IDENTITY)
    if version:
        headers |= {"MCP-Protocol-Version": version, "Mcp-Method": method}
        params = {**params, "_meta": NEWEST_META}
    async with serve(CODE_CALLER_LIMIT="1/minute") as port:
        for _ in range(3):
            assert "result" in await post(port, method, params, headers=headers)
        assert (await call(port, "echo"))["isError"] is False
        for _ in range(3):
            assert "result" in await post(port, method, params, headers=headers)


# Time, size and hostile text


async def test_a_write_that_has_begun_is_seen_through_though_the_caller_hangs_up(port: int, writes: Writes) -> None:
    asking = asyncio.create_task(call(port, "write"))
    async with asyncio.timeout(BOUND_SECONDS):
        await writes.begun.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        writes.go_on.set()

        await writes.done.wait()


async def given_up(mcp: McpEndpoint, writes: Writes) -> None:
    """Call the write tool, and give the request up once it has begun."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "write"}}).encode()
    headers = {**IDENTITY, **ACCEPT, "Content-Type": "application/json"}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        raise AssertionError("the request was given up")

    request = asyncio.create_task(mcp(scope, receive, send))
    await writes.begun.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)


async def test_so_is_one_whose_request_the_server_itself_gives_up(
    kcp: Kcp, table: Sequence[Tool], writes: Writes
) -> None:
    tools = ToolServer(table, McpSettings(), kcp.find)
    async with McpEndpoint(tools, 1 << 20) as mcp, asyncio.timeout(BOUND_SECONDS):
        await given_up(mcp, writes)
        writes.go_on.set()

        await writes.done.wait()


@pytest.mark.parametrize("drained", [True, False])
async def test_a_stop_waits_for_a_write_until_the_process_gives_it_up(
    kcp: Kcp, table: Sequence[Tool], writes: Writes, drained: bool
) -> None:
    stopping = asyncio.Event()

    async def serve() -> None:
        async with McpEndpoint(ToolServer(table, McpSettings(), kcp.find), 1 << 20) as mcp:
            await given_up(mcp, writes)
            stopping.set()

    serving = asyncio.create_task(serve())
    async with asyncio.timeout(BOUND_SECONDS):
        await stopping.wait()
        done, _ = await asyncio.wait({serving}, timeout=0.05)
        assert not done
        if drained:
            writes.go_on.set()
        else:
            serving.cancel()
        await asyncio.wait({serving})

    assert (writes.done.is_set(), serving.cancelled()) == (drained, not drained)
    writes.go_on.set()
    await writes.done.wait()


async def test_a_call_that_takes_too_long_ends_and_is_answered_in_words(
    port: int, writes: Writes, kcp: Kcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert time_limits.CALL < 15, "the hub's patience"
    monkeypatch.setattr(time_limits, "CALL", 0.05)

    assert "not known whether the change was stored" in error_text(await call(port, "write"))
    assert "Nothing was changed" in error_text(await call(port, "write", {"plan": True}))

    kcp.gate = asyncio.Event()
    assert "Ask for less" in error_text(await call(port, "read"))
    assert not writes.done.is_set()
    # Who serves waits for what it has begun.
    kcp.gate.set()


async def test_one_caller_does_not_take_the_calls_of_all(
    port: int, writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_MOST_CALLS_OF_ONE", 2)
    monkeypatch.setattr(server, "_MOST_CALLS", 3)
    async with asyncio.timeout(BOUND_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(call(port, "write"))
        await writes.both_begun.wait()

        refused = error_text(await call(port, "echo"))
        assert "2 calls under way" in refused
        assert "Wait until one of them is answered" in refused
        another = {**IDENTITY, "Authorization": "Bearer another"}
        assert (await call(port, "echo", headers=another))["isError"] is False
        writes.go_on.set()
    assert (await call(port, "echo"))["isError"] is False


async def test_a_tool_knows_when_its_request_began_to_arrive(serve: Serve, table: list[Tool]) -> None:
    arrived: list[float | None] = []

    async def look(call: Call) -> dict[str, Any]:
        arrived.append(call.arrived)
        return {}

    table.append(tool("look", look))
    params = {"name": "look", "arguments": {}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()

    async with serve() as port, asyncio.timeout(BOUND_SECONDS):
        reading, writing = await asyncio.open_connection("127.0.0.1", port)
        fields = {**IDENTITY, **ACCEPT, "Content-Type": "application/json", "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writing.write(f"POST /mcp HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n{head}\r\n".encode())
        # The gateway asks for the body once it has the head.
        await reading.readuntil(b"100 Continue\r\n\r\n")
        asked = asyncio.get_running_loop().time()
        writing.write(body)
        await reading.readuntil(b"\r\n\r\n")
        writing.close()
        await writing.wait_closed()

    assert arrived[0] is not None
    assert arrived[0] <= asked


async def test_large_answers_that_nobody_reads_share_a_bound_and_small_ones_pass(
    serve: Serve, table: list[Tool]
) -> None:
    async def large(_: Call) -> dict[str, Any]:
        return {"texts": ["x" * 8000] * 200}

    table.append(tool("large", large))
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "large"}}).encode()
    fields = "".join(f"{name}: {value}\r\n" for name, value in {**IDENTITY, **ACCEPT}.items())
    head = f"POST /mcp HTTP/1.1\r\nHost: localhost\r\n{fields}Content-Type: application/json\r\n"
    unread: list[socket.socket] = []
    async with (
        serve(CODE_MCP_MAX_BODY_BYTES="150000", CODE_HTTP_MAX_BYTES_IN_FLIGHT="9000000") as port,
        aiohttp.ClientSession(headers={**IDENTITY, **ACCEPT}) as session,
        asyncio.timeout(BOUND_SECONDS),
    ):

        async def ask() -> int:
            url = f"http://127.0.0.1:{port}/mcp"
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
                await response.read()
                return response.status

        assert await ask() == 200  # of 3.2 MB
        for _ in range(2):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            unread.append(connection)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
            request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
            await asyncio.get_running_loop().sock_sendall(connection, request)
        while await ask() != 503:
            pass
        assert (await call(port, "echo"))["isError"] is False
        for connection in unread:
            connection.close()
        while await ask() != 200:
            pass


async def test_hidden_characters_are_stripped_and_texts_are_bounded(port: int) -> None:
    hidden = "a\u202eb\u200bc\ufeffd\U000e0041e\ufe0ff\x00g\nh"

    assert (await call(port, "echo", {"text": hidden}))["structuredContent"]["text"] == "abcdefg\nh"
    assert len((await call(port, "echo", {"text": "word " * 10_000}))["structuredContent"]["text"]) <= 8192


async def test_a_body_that_is_too_large_is_refused(serve: Serve) -> None:
    async with serve(CODE_MCP_MAX_BODY_BYTES="2000") as port, aiohttp.ClientSession(headers=ACCEPT) as session:
        async with session.post(f"http://127.0.0.1:{port}/mcp", data=b"x" * 2001) as response:
            assert response.status == 413

        async def unannounced() -> Any:
            yield b"x" * 2001

        async with session.post(f"http://127.0.0.1:{port}/mcp", data=unannounced()) as response:
            assert response.status == 413


async def test_large_bodies_share_a_bound_and_small_ones_pass(serve: Serve) -> None:
    async with serve(CODE_MCP_MAX_BODY_BYTES="150000", CODE_HTTP_MAX_BYTES_IN_FLIGHT="200000") as port:
        for _ in range(4):
            assert (await call(port, "echo", {"text": "x" * 60_000}))["isError"] is False
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 140000\r\n\r\n"
        )
        writer.write(head + b"x" * 120_000)
        await writer.drain()
        async with aiohttp.ClientSession(headers=ACCEPT) as session, asyncio.timeout(20):
            while True:
                # Until the half request has arrived.
                async with session.post(f"http://127.0.0.1:{port}/mcp", data=b"x" * 100_001) as response:
                    if response.status == 503:
                        assert response.headers["Retry-After"] == "1"
                        break
        assert await names(port)
        writer.close()
        del reader


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"tools/list", b'{"method":"tools/list"}', b"[" * 900, b"[" * 300 + b"]" * 300, b"\xff"]
)
async def test_what_is_not_a_request_is_a_client_error(port: int, body: bytes) -> None:
    async with (
        aiohttp.ClientSession(headers={**ACCEPT, "Content-Type": "application/json"}) as session,
        session.post(f"http://127.0.0.1:{port}/mcp", data=body) as response,
    ):
        assert response.status == 400
