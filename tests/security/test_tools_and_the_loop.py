"""No object of a tenant keeps the gateway's event loop busy for more than 100 ms when a tool shows it.

The tools run as an agent calls them, from the request to the last byte of the answer. kcp stands on the loopback interface and
answers with bytes that were made before.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web
from hostile import texts
from loop_steps import steps_of_the_loop

from codecommon.api.kinds import COLLABORATORS, CONNECTIONS, DEPLOY_KEYS, PACKAGES, REPOSITORIES, KindSpec
from codecommon.kcp.kubeconfig import ApiServer
from codecommon.kcp.lists import PAGE_BYTES, PAGE_OBJECTS
from gateway.mcp_server.endpoint import McpEndpoint
from gateway.mcp_server.server import ToolServer
from gateway.mcp_settings import McpSettings
from gateway.mcp_tools.table import tools

pytestmark = pytest.mark.slow

ALLOWED_SECONDS = 0.1
MOST_ITEMS = 500
"""The greatest ``limit`` of a list."""
OBJECTS = MOST_ITEMS + 1
CLUSTER = "2x5yknxhwy4dkw5f"
HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "x-kedge-tenant": CLUSTER,
    "x-kedge-cluster": CLUSTER,
    "authorization": "Bearer caller-token",
}
LISTS: dict[str, KindSpec[Any]] = {
    "list_connections": CONNECTIONS,
    "list_repositories": REPOSITORIES,
    "list_deploy_keys": DEPLOY_KEYS,
    "list_collaborators": COLLABORATORS,
    "list_packages": PACKAGES,
}
TEXTS = {
    **texts(1000),
    "words that hint at secrets": "bearer token secret@ " * 48,
    "addresses with secrets": "https://" + "token@" * 165,
    "two bytes each": "é" * 1000,
    "four bytes each": "\U0001f600" * 1000,
    "combining": "a\u0301\ufe0f" * 333,
}


def hostile_object(kind: KindSpec[Any], number: int, text: str) -> dict[str, Any]:
    """An object whose every text that a tool shows is ``text``."""
    short = text[:250]
    condition = {"type": "Ready", "status": "False", "reason": short, "message": text, "lastTransitionTime": short}
    return {
        "kind": kind.kind,
        "metadata": {
            "name": f"{number:04}",
            "uid": f"uid-{number}",
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            **dict.fromkeys(
                ("provider", "owner", "connectionRef", "name", "repositoryRef", "title", "username"), short
            ),
            "type": "pat",
            "permission": "push",
            "visibility": "private",
            "description": text,
            "secretRef": {"name": short},
        },
        "status": {
            "conditions": [condition | {"type": f"{short}{i}"[-250:]} for i in range(3)],
            **dict.fromkeys(("login", "title", "keyID", "packageName", "type", "updatedAt", "host", "owner"), short),
            **dict.fromkeys(("htmlURL", "imageRepository", "cloneURL", "sshURL"), text),
            "versions": [{"digest": short, "tags": [text[:128]] * 10}],
        },
    }


@asynccontextmanager
async def kcp(answers: Mapping[str, bytes]) -> AsyncIterator[ApiServer]:
    """Answers each page, by its continue token, and each object, by its name."""

    async def respond(request: web.Request) -> web.Response:
        last = request.path.rpartition("/")[2]
        body = answers[request.query.get("continue", "first") if "limit" in request.query else last]
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", respond)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield ApiServer(f"http://127.0.0.1:{runner.addresses[0][1]}/clusters/p", ssl.create_default_context())
    finally:
        await runner.cleanup()


def pages(kind: KindSpec[Any], text: str) -> dict[str, bytes]:
    """As many objects as a tool shows, in pages that are as large as a page may be."""
    made = [orjson.dumps(hostile_object(kind, number, text)) for number in range(OBJECTS)]
    size = max(1, min(PAGE_OBJECTS, (PAGE_BYTES - 1000) // len(made[0])))
    answers = {"0001": made[1]}
    for start in range(0, OBJECTS, size):
        token = str(start + size) if start + size < OBJECTS else ""
        metadata = orjson.dumps({"continue": token})
        answers[str(start or "first")] = b'{"items":[%b],"metadata":%b}' % (
            b",".join(made[start : start + size]),
            metadata,
        )
    return answers


async def answer(api: ApiServer, name: str, arguments: dict[str, Any]) -> bytes:
    """Call the tool, and return the answer."""

    async def find() -> ApiServer:
        return api

    params = {"name": name, "arguments": arguments}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "query_string": b"",
        "headers": [(field.encode(), value.encode()) for field, value in HEADERS.items()],
    }
    sent = b""

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal sent
        sent += message.get("body", b"")

    table = ToolServer(tools("default", confirm_deletes=False), McpSettings(), find)
    async with McpEndpoint(table, 1 << 20) as mcp:
        await mcp(scope, receive, send)
    return sent


async def longest(api: ApiServer, name: str, arguments: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """The longest step in seconds, and the result. Of three times the shortest counts: a busy machine is not slow each time."""
    times = list[float]()
    while not times or (times[-1] >= ALLOWED_SECONDS and len(times) < 3):
        with steps_of_the_loop() as measured:
            sent = await answer(api, name, arguments)
        times.append(measured.seconds)
    return min(times), json.loads(sent)["result"]


# A Package shows most texts. The others have the same way, so the costliest texts do.
WORST = ("words that hint at secrets", "addresses with secrets", "four bytes each", "not ASCII")
SHOWN = [("list_packages", what) for what in TEXTS] + [
    (name, what) for name in LISTS for what in WORST if name != "list_packages"
]


@pytest.mark.parametrize(("name", "what"), SHOWN)
async def test_no_list_of_hostile_objects_holds_the_loop(name: str, what: str) -> None:
    async with kcp(pages(LISTS[name], TEXTS[what])) as api:
        seconds, result = await longest(api, name, {"limit": MOST_ITEMS})

    assert seconds < ALLOWED_SECONDS, f"{what} in {name} took {seconds:.3f} s"
    shown = result.get("structuredContent")
    assert shown is None or any(shown.values()), "the objects are not shown, so nothing was measured"
    if shown is None:
        assert "too large" in result["content"][0]["text"]
