"""Whatever is sent to `/mcp` is answered: with JSON-RPC, or with a 4xx in words. Nothing of the inside shows, and nothing stays.

`make test` sends the same requests each time. `make security` sends many more, and other ones each time.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import jsonschema_rs
import pytest
from fuzzed_gateway import CLUSTER, IDENTITY, JSON, Answer, FuzzedGateway, fuzzed_gateway, json_rpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema

from codecommon.testing.builders import (
    collaborator_object,
    connection_object,
    deploy_key_object,
    repository_object,
)
from gateway.mcp_tools.read import read_tools
from gateway.mcp_tools.write import write_tools

FULL = os.environ.get("CODE_SECURITY_TESTS") == "full"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800 if FULL else 120),
    # Hypothesis writes down what it sends, and would rather not.
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]
FUZZED = settings(
    max_examples=2_000 if FULL else 100,
    derandomize=not FULL,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
MOST_MEMORY = 48 << 20
TOOLS = {tool.name: tool for tool in (*read_tools("default"), *write_tools())}
OUTPUTS = {name: jsonschema_rs.validator_for(dict(tool.output_schema)) for name, tool in TOOLS.items()}
NEWEST = "2026-07-28"
METHODS = [
    "tools/call",
    "tools/list",
    "initialize",
    "server/discover",
    "ping",
    "logging/setLevel",
    "notifications/initialized",
]
META = {
    "io.modelcontextprotocol/protocolVersion": NEWEST,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "fuzz", "version": "1"},
}


@pytest.fixture
async def gateway() -> AsyncIterator[FuzzedGateway]:
    """It is left as it was found: no task, no file and little memory more."""
    # The SDK wants to be left by the task that entered it, and pytest-asyncio tears down in another one.
    made: asyncio.Future[FuzzedGateway] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def hold() -> None:
        async with fuzzed_gateway() as gateway:
            made.set_result(gateway)
            await over.wait()

    holding = asyncio.create_task(hold())
    await asyncio.wait((holding, made), return_when=asyncio.FIRST_COMPLETED)
    if not made.done():
        await holding  # it raises why there is none
    gateway = made.result()
    for _ in range(50):
        await gateway.post(json_rpc("tools/call", {"name": "list_connections"}), JSON | IDENTITY)
    tasks, files, memory = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), resident()
    try:
        yield gateway
        await gateway.client.close()
        async with asyncio.timeout(20):
            # The server learns of the closed connection, and writes that were left are seen through.
            while len(asyncio.all_tasks()) > tasks:
                await asyncio.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) <= files + 16  # idle connections to kcp
        gc.collect()
        assert resident() - memory < MOST_MEMORY
    finally:
        over.set()
        await holding


def resident() -> int:
    """Bytes of memory that this process uses, without what earlier tests of the worker have left in the allocator."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def require_sound(answer: Answer) -> Any:
    """The JSON-RPC message in the answer. None: there is none, and it says in words why, or there was nothing to answer.

    A batch is answered by a list of messages. Each is judged, and None is returned.
    """
    shown = f"{answer.status} {answer.body[:500]!r}"
    assert 200 <= answer.status < 500, shown
    for inside in (b"Traceback", b'File "', b"site-packages", b"/gateway/", b"caller-token"):
        assert inside not in answer.body, shown
    if answer.status in (202, 406):
        return None  # a notification was taken; the client takes no JSON, and 406 is all there is to say
    assert answer.body, shown
    if answer.status >= 400 and answer.content_type != "application/json":
        assert answer.body.isascii(), shown
        return None
    assert answer.content_type == "application/json", shown
    message = json.loads(answer.body)
    if isinstance(message, list):
        assert message, shown
        for one in message:
            require_sound_message(one, shown)
        return None
    if "detail" in message:
        assert answer.status >= 400, shown
        return None
    require_sound_message(message, shown)
    return message


def require_sound_message(message: Any, shown: str) -> None:
    assert message["jsonrpc"] == "2.0", shown
    assert ("result" in message) != ("error" in message), shown
    if "error" in message:
        assert isinstance(message["error"]["code"], int), shown
        assert message["error"]["message"], shown


# Bodies

texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "2.0", NEWEST, "2025-06-18", CLUSTER, "a" * 2000, "\ud800", "\0", "\u202e", "../..", "ghp_" + "a" * 36]
    ),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    texts,
    st.sampled_from([2**63, -(2**63) - 1, 10**400, 1e308, float("nan"), float("inf"), -0.0]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)
calls = st.fixed_dictionaries(
    {},
    optional={
        "name": st.one_of(st.sampled_from(sorted(TOOLS)), values),
        "arguments": values,
        "_meta": st.one_of(st.just(META), values, st.fixed_dictionaries({"progressToken": values})),
        "protocolVersion": st.one_of(st.just("2025-06-18"), values),
        "capabilities": values,
        "clientInfo": st.one_of(st.just({"name": "a", "version": "1"}), values),
        "cursor": values,
    },
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.one_of(st.just("2.0"), st.just("2.0"), st.just("2.0"), values),
        "id": st.one_of(st.integers(), st.text(max_size=10), values),
        "method": st.one_of(st.sampled_from(METHODS), st.sampled_from(METHODS), values),
        "params": st.one_of(calls, calls, values),
        "result": values,
        "error": values,
    },
)
whole = st.fixed_dictionaries(
    {
        "jsonrpc": st.just("2.0"),
        "id": st.integers() | texts,
        "method": st.sampled_from(METHODS),
        "params": calls | values,
    }
)


def nested(opening: str, depth: int) -> str:
    return opening * depth + ("1}" if opening.endswith(":") else "]") * depth


@st.composite
def spoiled(draw: Any) -> bytes:
    """A document with a key twice, with other bytes in it, or cut."""
    text = json.dumps(draw(whole)).encode()
    place = draw(st.integers(0, len(text)))
    match draw(st.sampled_from(["cut", "bytes", "twice", "swap"])):
        case "cut":
            return text[:place]
        case "bytes":
            return text[:place] + draw(st.binary(min_size=1, max_size=8)) + text[place:]
        case "twice":
            return text[:-1] + b"," + json.dumps(draw(messages)).encode()[1:]
        case _:
            return text[place:] + text[:place]


bodies = st.one_of(
    whole.map(lambda message: json.dumps(message).encode()),
    messages.map(lambda message: json.dumps(message).encode()),
    st.lists(messages, max_size=3).map(lambda batch: json.dumps(batch).encode()),
    values.map(lambda value: json.dumps(value).encode()),
    whole.map(lambda message: json.dumps(message).encode("utf-16")),
    spoiled(),
    st.binary(max_size=60),
    st.builds(
        lambda opening, depth, start: start + nested(opening, depth).encode(),
        st.sampled_from(["[", '{"a":', '{"params":']),
        st.sampled_from([50, 150, 199, 200, 201, 1000, 50_000, 200_000]),
        st.sampled_from(
            [b"", b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"explain","arguments":{"a":']
        ),
    ),
    st.builds(
        lambda depth: json_rpc("tools/call", {"name": "explain", "arguments": {"a": 0}}).replace(
            b"0}", b"[" * depth + b"]" * depth + b"}"
        ),
        st.sampled_from([50, 100, 150, 180, 190, 195, 200, 250, 300, 900, 5000]),
    ),
    st.builds(
        lambda digits: b'{"jsonrpc":"2.0","id":%b,"method":"tools/list"}' % (b"9" * digits), st.integers(1, 6000)
    ),
)
protocols = st.sampled_from(
    [b"", b"", b"2025-03-26", b"2025-06-18", b"2025-11-25", NEWEST.encode(), b"2024-11-05", b"x"]
)


def speaking(protocol: bytes) -> dict[bytes, bytes]:
    return JSON | IDENTITY | ({b"MCP-Protocol-Version": protocol} if protocol else {})


@FUZZED
@given(body=bodies, protocol=protocols, method=st.sampled_from(METHODS))
async def test_any_body_is_answered(gateway: FuzzedGateway, body: bytes, protocol: bytes, method: str) -> None:
    require_sound(
        await gateway.post(body, speaking(protocol) | {b"Mcp-Method": method.encode(), b"Mcp-Name": b"explain"})
    )


@FUZZED
@given(message=whole, protocol=protocols)
async def test_an_answer_has_the_id_of_its_request(gateway: FuzzedGateway, message: Any, protocol: bytes) -> None:
    answer = require_sound(await gateway.post(json.dumps(message).encode(), speaking(protocol)))

    if answer is not None and "result" in answer:
        assert answer["id"] == message["id"]


# Headers

odd = st.one_of(
    st.binary(max_size=40).map(lambda value: bytes(c for c in value if c not in b"\r\n\0").strip()),
    st.sampled_from(
        [b"", b"true", b"0", b"," * 1000, b"a," * 500, b"\xff", "é".encode(), b"list_connections", b"*", b"\t"]
    ),
)
headers = st.dictionaries(
    st.sampled_from(
        [
            b"MCP-Protocol-Version",
            b"Mcp-Session-Id",
            b"Mcp-Method",
            b"Mcp-Name",
            b"Mcp-Param-Name",
            b"Last-Event-ID",
            b"X-MCP-Readonly",
            b"X-MCP-Tools",
            b"X-MCP-Exclude-Tools",
            b"X-Kedge-Tenant",
            b"X-Kedge-Cluster",
            b"X-Kedge-User",
            b"X-Forwarded-For",
            b"Origin",
            b"Cookie",
            b"traceparent",
            b"tracestate",
            b"baggage",
            b"Accept",
            b"Content-Type",
            b"Accept-Encoding",
        ]
    ),
    odd | protocols | st.just(b"application/json"),
    max_size=6,
)
authorizations = st.one_of(
    st.just(b"Bearer caller-token"),
    odd,
    odd.map(lambda value: b"Bearer " + value),
    st.sampled_from(
        [b"Bearer", b"bearer  a", b"Basic YTpi", b"Bearer a b", b"Bearer " + b"a" * 20_000, b"Bearer a, Bearer b"]
    ),
)


@FUZZED
@given(
    more=headers,
    authorization=authorizations,
    request=st.sampled_from(
        [("tools/list", {}), ("tools/call", {"name": "list_connections", "arguments": {}}), ("initialize", {})]
    ),
    meta=st.booleans(),
)
async def test_any_header_is_answered(
    gateway: FuzzedGateway, more: dict[bytes, bytes], authorization: bytes, request: Any, meta: bool
) -> None:
    method, params = request
    body = json_rpc(method, {**params, **({"_meta": META} if meta else {})})

    require_sound(await gateway.post(body, JSON | IDENTITY | {b"Authorization": authorization} | more))


# Arguments, and what kcp makes of them


def status(code: int, reason: str) -> tuple[int, bytes]:
    message = "hidden \u202e text and ghp_" + "a" * 36
    return code, json.dumps({"kind": "Status", "code": code, "reason": reason, "message": message}).encode()


OBJECTS = [connection_object(), repository_object(), deploy_key_object(), collaborator_object()]


def stored(kind: int, *items: Any) -> tuple[int, bytes]:
    """An answer that fits every request: a list, and an object with what a spec of any kind must have."""
    spec = {name: value for other in (*OBJECTS, OBJECTS[kind]) for name, value in other["spec"].items()}
    return 200, json.dumps({**OBJECTS[kind], "spec": {"permission": "pull", **spec}, "items": items}).encode()


kcp_answers = st.sampled_from(
    [
        *(stored(kind, *OBJECTS) for kind in range(len(OBJECTS))),
        stored(0),
        status(401, "Unauthorized"),
        status(403, "Forbidden"),
        status(404, "NotFound"),
        status(409, "AlreadyExists"),
        status(409, "Conflict"),
        status(422, "Invalid"),
        status(429, "TooManyRequests"),
        (500, b"Traceback (most recent call last)"),
        (200, b"{"),
        (302, b""),
    ]
)
arguments = st.sampled_from(sorted(TOOLS)).flatmap(
    lambda name: st.tuples(
        st.just(name),
        st.one_of(
            from_schema(dict(TOOLS[name].input_schema)),
            st.dictionaries(st.sampled_from([*TOOLS[name].input_schema["properties"], "other"]), values, max_size=5),
            st.builds(
                lambda valid, key, value: {**valid, key: value},
                from_schema(dict(TOOLS[name].input_schema)),
                st.sampled_from([*TOOLS[name].input_schema["properties"], "other"]),
                values,
            ),
        ),
    )
)


@FUZZED
@given(call=arguments, answer=kcp_answers, newest=st.booleans())
async def test_any_argument_is_answered_with_a_result_as_the_schema_says(
    gateway: FuzzedGateway, call: tuple[str, Any], answer: tuple[int, bytes], newest: bool
) -> None:
    gateway.kcp.answer = answer
    name, given_arguments = call
    params = {"name": name, "arguments": given_arguments, **({"_meta": META} if newest else {})}
    more = {b"Mcp-Method": b"tools/call", b"Mcp-Name": name.encode()} if newest else {}

    message = require_sound(
        await gateway.post(json_rpc("tools/call", params), speaking(NEWEST.encode() if newest else b"") | more)
    )

    assert message is not None
    if "error" in message:  # not JSON, such as NaN or a number that no parser takes
        assert message["error"]["code"] in (-32700, -32600, -32602, -32603), message
        return
    result = message["result"]
    (block,) = result["content"]
    if result["isError"]:
        assert block["text"].strip()
        assert "for a reason that is the provider's own" not in block["text"], block["text"]
    else:
        assert json.loads(block["text"]) == result["structuredContent"]
        OUTPUTS[name].validate(result["structuredContent"])
