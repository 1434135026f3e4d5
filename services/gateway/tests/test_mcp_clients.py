"""The gateway's tools, held to the official conformance suite of MCP and used by the official TypeScript clients."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn
from aiohttp import web

from codecommon.kcp.kubeconfig import ApiServer
from codecommon.process.health import Readiness
from codecommon.testing.builders import connection_object
from codecommon.testing.objects import InMemoryKcp
from gateway.caller_limits import CallerLimits
from gateway.http_protocol import bounded_http
from gateway.mcp_server.endpoint import McpEndpoint
from gateway.mcp_server.server import ToolServer
from gateway.mcp_tools.table import tools
from gateway.mcp_tools.tool import Call, Tool, ToolError
from gateway.routes import build_app
from gateway.settings import GatewaySettings

# The first test installs the packages, too.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

REPOSITORY: Final = Path(__file__).parents[3]
CLIENTS: Final = REPOSITORY / "tests" / "mcp-clients"
PAGE: Final = REPOSITORY / "docs" / "mcp-conformance.md"
CLUSTER: Final = "2x5yknxhwy4dkw5f"
IDENTITY: Final = {"X-Kedge-Tenant": CLUSTER, "X-Kedge-Cluster": CLUSTER, "Authorization": "Bearer caller-token"}
BOUND_SECONDS: Final = 90
OLDEST_NODE: Final = 20
UNREACHABLE: Final = (
    *("EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH"),
    *("ENOTCACHED", "ENOTFOUND", "ERR_SOCKET_TIMEOUT", "ETIMEDOUT"),
)


# Node.js and its packages


def missing() -> str:
    """What has to be installed before these tests can run. Empty: nothing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        found = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        if int(found.removeprefix("v").partition(".")[0]) >= OLDEST_NODE:
            return ""
        return f"Node.js is {found}"
    return "there is no node" if npm else "there is no npm"


@pytest.fixture(scope="session")
def clients() -> Path:
    """The folder with the clients, and their packages as the lock file has them. Workers that come at the same time wait."""
    if lack := missing():
        pytest.skip(
            f"{lack}: install Node.js {OLDEST_NODE} or later with npm. "
            "Left out: the MCP conformance suite and the official TypeScript clients"
        )
    lock = CLIENTS / "package-lock.json"
    stamp = CLIENTS / "node_modules" / ".installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    with lock.open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            install(CLIENTS)
            stamp.write_text(wanted)
    return CLIENTS


def install(folder: Path) -> None:
    """The packages of the folder's lock file. Skips the test if the registry cannot be reached."""
    command = ["npm", "ci", "--no-progress", "--fetch-retry-maxtimeout=10000"]
    try:
        made = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BOUND_SECONDS)
    except subprocess.TimeoutExpired:
        why = f"it took more than {BOUND_SECONDS} s"
    else:
        code = re.search(r"npm (?:ERR!|error) code (\S+)", made.stderr)
        if code is None or code[1] not in UNREACHABLE:
            assert made.returncode == 0, f"npm ci in {folder.name} failed: {made.stderr[-2000:]}"
            return
        why = code[1]
    pytest.skip(
        f"npm ci does not reach the package registry ({why}). "
        "Left out: the MCP conformance suite and the official TypeScript clients"
    )


@pytest.mark.parametrize("code", ["ENOTFOUND", "ERR_SOCKET_TIMEOUT"])
def test_without_the_registry_the_clients_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    fails_with(code, tmp_path, monkeypatch)

    with pytest.raises(pytest.skip.Exception, match=rf"does not reach the package registry \({code}\)"):
        install(tmp_path)


def test_a_lock_file_that_does_not_fit_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails_with("EUSAGE", tmp_path, monkeypatch)

    with pytest.raises(AssertionError, match="EUSAGE"):
        install(tmp_path)


def fails_with(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\necho 'npm error code {code}' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


async def node(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run node in the folder. Returns its exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        "node", *arguments, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


# The gateway


async def say(call: Call) -> dict[str, Any]:
    return {"text": "This is a simple text response for testing."}


async def refuse(call: Call) -> dict[str, Any]:
    raise ToolError("This tool intentionally returns an error for testing")


SCHEMA_2020_12: Final[Mapping[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "address",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        },
    },
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "allOf": [{"anyOf": [{"required": ["name"]}, {"required": ["address"]}]}],
    "if": {"required": ["address"]},
    "then": {"required": ["name"]},
    "else": {},
    "additionalProperties": False,
}
OUTPUT: Final[Mapping[str, Any]] = {"type": "object"}
REFERENCE_TOOLS: Final = (
    Tool("test_simple_text", "Text", "A tool of the reference server.", OUTPUT, OUTPUT, say),
    Tool("test_logging_tool", "Log", "A tool of the reference server.", OUTPUT, OUTPUT, say),
    Tool("test_error_handling", "Error", "A tool of the reference server.", OUTPUT, OUTPUT, refuse),
    Tool("json_schema_2020_12_tool", "Schema", "A tool of the reference server.", SCHEMA_2020_12, OUTPUT, say),
)
"""Tools that scenarios call and that results of ours can express. They join our own, so that these scenarios run, too."""


async def connections(request: web.Request) -> web.Response:
    """A kcp with one Connection in every workspace."""
    items = [InMemoryKcp().add(connection_object("main"), request.match_info["cluster"])]
    return web.json_response({"kind": "ConnectionList", "metadata": {}, "items": items})


@asynccontextmanager
async def gateway(table: Sequence[Tool], kcp: ApiServer, **environ: str) -> AsyncIterator[str]:
    """The gateway on a port of the loopback interface. Gives the address of its MCP endpoint."""
    settings = GatewaySettings.load(environ)

    async def find() -> ApiServer:
        return kcp

    server = ToolServer(table, settings, find, CallerLimits(settings.caller_rate))
    async with McpEndpoint(server, settings.most_mcp_body_bytes) as endpoint:
        app = build_app(Readiness(), settings=settings, routes=endpoint.routes())
        http = bounded_http(settings.most_head_bytes, settings.request_timeout.total_seconds())
        running = uvicorn.Server(uvicorn.Config(app, http=http, ws="none", lifespan="off", log_config=None))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(running._serve([listener]))
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
            finally:
                running.should_exit = True
                await serving


@asynccontextmanager
async def kcp() -> AsyncIterator[ApiServer]:
    app = web.Application()
    app.router.add_get("/clusters/{cluster}/apis/code.kedge.faros.sh/v1alpha1/connections", connections)
    runner = web.AppRunner(app)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await web.SockSite(runner, listener).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/clusters/provider"
        try:
            yield ApiServer(url, ssl.create_default_context())
        finally:
            await runner.cleanup()


TABLE: Final = tools("default", confirm_deletes=False)


# The conformance suite

SUITES: Final = {
    "0.1.13": ("node_modules/@modelcontextprotocol/conformance/dist/index.js", ("--suite", "all")),
    "0.2.0-alpha.12": ("node_modules/conformance-next/dist/index.js", ("--requirements", "2026-07-28")),
}
ROW: Final = re.compile(
    r"^\| `(?P<scenario>[a-z0-9-]+)` \| (?P<applies>[^|]+) \| (?P<result>[^|]+) \| (?P<why>[^|]*) \|$"
)


def documented(suite: str) -> dict[str, str]:
    """The result of each scenario, as the section of the page about this version of the suite has it."""
    _, found, section = PAGE.read_text(encoding="utf-8").partition(f"\n## Suite {suite}")
    assert found, f"{PAGE.name} has no section about {suite}"
    rows = [row for line in section.partition("\n## ")[0].splitlines() if (row := ROW.match(line))]
    for row in rows:
        assert row["result"] == "passes" or row["why"].strip(), f"{row['scenario']}: the page does not say why"
        assert row["applies"] != "yes" or row["result"] == "passes", f"{row['scenario']} applies and does not pass"
    return {row["scenario"]: row["result"] for row in rows}


def result(checks: list[dict[str, Any]]) -> str:
    failed = sorted({check["id"] for check in checks if check["status"] == "FAILURE"})
    if failed:
        return f"fails: {', '.join(f'`{check}`' for check in failed)}"
    return "passes" if any(check["status"] == "SUCCESS" for check in checks) else "checks nothing"


@pytest.mark.parametrize("suite", SUITES)
async def test_every_scenario_of_the_conformance_suite_ends_as_documented(
    clients: Path, tmp_path: Path, suite: str
) -> None:
    program, chosen = SUITES[suite]
    async with kcp() as api, gateway([*TABLE, *REFERENCE_TOOLS], api, KEDGE_DEV_ALLOW_TENANT_QUERY="true") as url:
        # The suite sends no headers of ours.
        url = f"{url}?tenant={CLUSTER}&cluster={CLUSTER}&token=t"
        arguments = ("server", "--url", url, *chosen, "--output-dir", str(tmp_path))
        _, out, err = await node(clients, "--import", "./node20.mjs", program, *arguments)

    found = {
        re.sub(r"^server-(.+)-\d{4}-\d\d-\d\dT[0-9-]+Z$", r"\1", path.parent.name): result(json.loads(path.read_text()))
        for path in tmp_path.glob("*/checks.json")
    }
    assert found, out + err
    assert found == documented(suite)


# The official TypeScript clients

REVISIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")


@pytest.mark.parametrize(
    ("release", "revision"),
    [*(("v1", revision) for revision in REVISIONS), *(("v2", revision) for revision in (*REVISIONS, "2026-07-28"))],
)
async def test_the_typescript_client_lists_and_calls(clients: Path, release: str, revision: str) -> None:
    calls = [("list_connections", {}), ("get_repository", {"nmae": "site"})]
    async with kcp() as api, gateway(TABLE, api) as url:
        code, out, err = await node(
            clients, "list-and-call.mjs", release, url, revision, json.dumps(IDENTITY), json.dumps(calls)
        )

    assert code == 0, err
    said = json.loads(out)
    assert [tool["name"] for tool in said["tools"]] == [tool.name for tool in TABLE]
    assert [tool["inputSchema"] for tool in said["tools"]] == [dict(tool.input_schema) for tool in TABLE]
    listed, refused = said["results"]
    # The client has held this against the output schema.
    assert [found["name"] for found in listed["structuredContent"]["connections"]] == ["main"]
    assert json.loads(listed["content"][0]["text"]) == listed["structuredContent"]
    assert refused["isError"] is True
    assert "did you mean 'name'?" in refused["content"][0]["text"]
    if revision == "2026-07-28":
        assert "initialize" not in said["asked"]
    else:
        assert (said["agreed"], said["asked"][0]) == (revision, "initialize")
