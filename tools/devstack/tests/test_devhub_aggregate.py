"""The aggregated MCP endpoint, rule by rule (hub-contract.md §5.1, §5.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hub_bed import ALICE, Bed, Received, answer, hub_bed
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from devstack.devhub.aggregate import Aggregate
from devstack.devhub.federation import FederationError, Limits, ProviderMcp, open_federation_session

PATH = "/services/mcpserver/2raw:segment/apis/kedge.faros.sh/v1alpha1/mcpservers/default/mcp"
HEADERS = {"Authorization": "Bearer caller", "Accept": "application/json, text/event-stream"}
ECHO: dict[str, Any] = {
    "name": "echo",
    "title": "Echo",
    "description": "says it again",
    "annotations": {"readOnlyHint": True},
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}},
    "outputSchema": {"type": "object"},
}


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with hub_bed(tmp_path) as made:
        serve(made, ECHO)
        yield made


def result(content: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": content}).encode()


def serve(bed: Bed, *tools: dict[str, Any]) -> None:
    """Make the provider answer like an MCP server with these tools."""

    def respond(received: Received) -> bytes:
        message = json.loads(received.body)
        content: Any = {
            "initialize": {"instructions": "Be kind."},
            "tools/list": {"tools": list(tools), "nextCursor": "ignored"},
            "tools/call": {"content": [{"type": "text", "text": "{}"}], "structuredContent": {}, "isError": False},
        }[message["method"]]
        return answer(result(content), headers="Content-Type: application/json\r\n")

    bed.provider.respond = respond


async def ask(bed: Bed, method: str, params: Any = None) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}
    async with bed.client.post(PATH, json=message, headers=HEADERS) as response:
        assert response.status == 200, await response.text()
        event, data = (await response.text()).rstrip("\n").split("\n")
    assert event == "event: message"
    whole = json.loads(data.removeprefix("data: "))
    assert whole["id"] == 7
    return whole


def methods(bed: Bed) -> list[str]:
    return [json.loads(request.body)["method"] for request in bed.provider.requests]


# §5.2, what goes over the wire


async def test_the_bytes_to_a_provider_are_those_of_the_hub(bed: Bed) -> None:
    await ask(bed, "tools/call", {"name": "code__echo", "arguments": {"text": "<a>&ä"}})
    head = (
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: {}\r\n"
        "Accept: application/json, text/event-stream\r\nAuthorization: Bearer caller\r\nContent-Type: application/json\r\n"
        "X-Kedge-Cluster: 2raw:segment\r\nX-Kedge-Tenant: 2raw:segment\r\nAccept-Encoding: gzip"
    )
    bodies = [
        b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
        b'"clientInfo":{"name":"kedge-aggregate","version":"v1"}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo",'
        b'"arguments":{"text":"\\u003ca\\u003e\\u0026\xc3\xa4"}}}',
    ]
    expected = [(head.format(len(body)).encode(), body) for body in bodies]
    assert [(request.head, request.body) for request in bed.provider.requests] == expected


@pytest.mark.parametrize("method", ["initialize", "ping", "tools/list", "resources/list", "unknown"])
async def test_every_request_asks_each_ready_provider_for_instructions_and_tools(bed: Bed, method: str) -> None:
    await ask(bed, method)
    assert methods(bed) == ["initialize", "tools/list"]


async def test_a_provider_that_is_not_ready_is_not_asked(bed: Bed) -> None:
    bed.register(ui={"url": "no-scheme"})
    assert (await ask(bed, "tools/list"))["result"]["tools"] == []
    assert bed.provider.requests == []


@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed"])
async def test_a_provider_without_mcp_is_dropped_in_silence(
    bed: Bed, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    bed.provider.respond = lambda received: answer(status=status)
    assert (await ask(bed, "tools/list"))["result"]["tools"] == []
    assert caplog.records == []


async def test_a_provider_that_fails_is_dropped_with_a_warning(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    bed.provider.respond = lambda received: answer(b"x" * 300, status="500 Internal Server Error")
    assert (await ask(bed, "tools/list"))["result"]["tools"] == []
    assert caplog.messages == [f"the tools of a provider are left out: code: HTTP 500: {'x' * 200}"]


async def test_only_the_first_data_line_of_a_stream_is_read(bed: Bed) -> None:
    first = b"event: message\ndata:" + b'{"no":"space"}\ndata: ' + result({"tools": [ECHO]}) + b"\n\ndata: {broken\n\n"
    bed.provider.respond = lambda received: answer(first, headers="Content-Type: text/event-stream; charset=utf-8\r\n")
    assert [tool["name"] for tool in (await ask(bed, "tools/list"))["result"]["tools"]] == ["code__echo"]


async def test_a_failed_initialize_does_no_harm(bed: Bed) -> None:
    def respond(received: Received) -> bytes:
        if b'"initialize"' in received.body:
            return answer(status="400 Bad Request")
        return answer(result({"tools": [ECHO]}))

    bed.provider.respond = respond
    assert len((await ask(bed, "tools/list"))["result"]["tools"]) == 1


async def test_an_answer_beyond_the_limit_cannot_be_decoded(bed: Bed) -> None:
    bed.provider.respond = lambda received: answer(result({"content": [{"type": "text", "text": "x" * 5000}]}))
    async with open_federation_session() as session:
        provider = bed.hub.registry.ready_backends()[0]
        assert await ProviderMcp(session, provider, "t", "c", Limits()).call("echo", {})
        with pytest.raises(FederationError):
            await ProviderMcp(session, provider, "t", "c", Limits(answer_bytes=5000)).call("echo", {})


async def test_a_slow_provider_is_given_up_for_discovery_and_for_calls(bed: Bed) -> None:
    over = asyncio.Event()

    async def never(writer: asyncio.StreamWriter) -> None:
        await over.wait()

    bed.provider.stream = never
    async with open_federation_session() as session:
        aggregate = Aggregate(bed.hub.registry, session, Limits(discovery=0.2, request=10))
        async with asyncio.timeout(5):
            assert (await aggregate.federate("t", "c")).tools == {}
        provider = bed.hub.registry.ready_backends()[0]
        with pytest.raises(FederationError, match=r"within 0\.2 s"):
            await ProviderMcp(session, provider, "t", "c", Limits(request=0.2)).call("echo", {})
    over.set()


def test_the_limits_are_the_hubs() -> None:
    assert Limits() == Limits(discovery=8, request=15, answer_bytes=8 * 1024 * 1024)


# What the caller sees


async def test_a_tool_is_re_exported_under_its_providers_name_without_output_schema(bed: Bed) -> None:
    serve(bed, ECHO, {"name": "plain", "inputSchema": {"type": "object"}})
    kept = {key: ECHO[key] for key in ("description", "annotations", "inputSchema")}
    assert (await ask(bed, "tools/list"))["result"]["tools"] == [
        {"name": "code__echo", "title": "Echo — Code", **kept},
        {"name": "code__plain", "title": "plain — Code", "inputSchema": {"type": "object"}},
    ]


async def test_a_tool_whose_input_is_no_object_vanishes_alone(bed: Bed) -> None:
    serve(bed, {"name": "none"}, {"name": "any", "inputSchema": {}}, ECHO)
    assert [tool["name"] for tool in (await ask(bed, "tools/list"))["result"]["tools"]] == ["code__echo"]


async def test_annotations_of_the_wrong_type_spoil_the_whole_list(bed: Bed) -> None:
    serve(bed, ECHO, {"name": "odd", "annotations": ["x"], "inputSchema": {"type": "object"}})
    assert (await ask(bed, "tools/list"))["result"]["tools"] == []


async def test_a_result_is_relayed(bed: Bed) -> None:
    relayed = (await ask(bed, "tools/call", {"name": "code__echo"}))["result"]
    assert relayed == {"content": [{"type": "text", "text": "{}"}], "structuredContent": {}}
    assert json.loads(bed.provider.last.body)["params"] == {"name": "echo", "arguments": {}}


async def test_an_unknown_tool_and_a_providers_error_are_errors(bed: Bed) -> None:
    assert (await ask(bed, "tools/call", {"name": "echo"}))["error"] == {
        "code": -32602,
        "message": 'unknown tool "echo"',
    }

    def respond(received: Received) -> bytes:
        if b'"tools/call"' in received.body:
            return answer(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no"}}')
        return answer(result({"tools": [ECHO]}))

    bed.provider.respond = respond
    assert (await ask(bed, "tools/call", {"name": "code__echo"}))["error"]["message"] == "code: no"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (PATH, {"Authorization": ""}, 401),
        ("/services/mcpserver/2raw/other/mcp", {}, 400),
        (PATH, {"Accept": "application/json"}, 400),
        (PATH, {"MCP-Protocol-Version": "2099-01-01"}, 400),
    ],
)
async def test_bad_requests_ask_nobody(bed: Bed, path: str, headers: dict[str, str], status: int) -> None:
    async with bed.client.post(path, json={}, headers=HEADERS | headers) as response:
        assert response.status == status
    assert bed.provider.requests == []


async def test_a_segment_that_is_no_header_value_reaches_no_provider(bed: Bed) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    async with bed.client.post(PATH.replace("2raw", "2%0d%0aX-A:%20b"), json=message, headers=HEADERS) as response:
        assert response.status == 200
    assert bed.provider.requests == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_lists_and_calls(bed: Bed, mode: Any) -> None:
    async with (
        httpx2.AsyncClient(verify=False, headers={"Authorization": f"Bearer {ALICE.token}"}) as http,
        Client(streamable_http_client(bed.hub.mcp_url(bed.team.cluster), http_client=http), mode=mode) as client,
    ):
        assert client.server_info.name == "kedge-mcpserver"
        assert client.instructions == "## Code\n\nBe kind."
        assert [tool.name for tool in (await client.list_tools()).tools] == ["code__echo"]
        called = await client.call_tool("code__echo", {"text": "x"})
        assert (called.is_error, called.structured_content) == (False, {})
    assert bed.provider.last.header("X-Kedge-Tenant") == bed.team.cluster
