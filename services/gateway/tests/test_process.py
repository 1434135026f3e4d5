"""The gateway as a process, seen over HTTP."""

import json
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from codecommon.testing.engine import until
from devstack.nats import NatsServer
from devstack.ports import free_ports
from devstack.processes import Process

pytestmark = pytest.mark.slow

STOP_SECONDS = 10


def gateway(folder: Path, **environ: str) -> Process:
    return Process(
        "gateway",
        [sys.executable, "-m", "gateway"],
        log_file=folder / "gateway.log",
        env={"CODE_GATEWAY_HOST": "127.0.0.1", "PORT": "0", **environ},
    )


async def address(process: Process) -> str:
    listening = await process.line(r"listening on port (\d+)", timeout=60)
    await process.line('"started"')
    return f"http://127.0.0.1:{listening[1]}"


async def test_healthz_answers_any_method_and_readyz_lists_pings(tmp_path: Path) -> None:
    async with gateway(tmp_path) as process, aiohttp.ClientSession(await address(process)) as session:
        for method in ("GET", "POST", "DELETE", "OPTIONS", "PURGE"):
            async with session.request(method, "/healthz") as response:
                assert (response.status, await response.json()) == (200, {"status": "ok"})
        async with session.head("/healthz") as response:
            assert response.status == 200
        async with session.get("/readyz") as response:
            assert (response.status, await response.json()) == (200, {"ready": True, "phase": "started", "pings": {}})
        async with session.get("/openapi.json") as response:
            assert "openapi" not in await response.text()


async def test_the_settings_reach_the_routes_and_the_server(tmp_path: Path) -> None:
    (tmp_path / "portal").mkdir()
    (tmp_path / "portal" / "main.js").write_text("customElements.define")
    environ = {"CODE_PORTAL_DIR": str(tmp_path / "portal"), "CODE_HTTP_MAX_HEADER_BYTES": "4096"}
    async with gateway(tmp_path, **environ) as process, aiohttp.ClientSession(await address(process)) as session:
        async with session.get("/main.js") as response:
            assert (response.content_type, await response.text()) == ("text/javascript", "customElements.define")
        async with session.get("/livez") as response:
            assert (await response.json())["alive"] is True
        async with session.get("/", headers={"a": "x" * 5000}) as response:
            assert response.status == 431
        async with session.get("/logged?query") as response:
            assert response.status == 200
        await process.line(r"GET /logged 200 [0-9.]+ ms")


async def test_a_gateway_that_is_asked_to_stop_exits_with_0(tmp_path: Path) -> None:
    async with gateway(tmp_path) as process:
        await address(process)

        os.kill(process.pid, signal.SIGTERM)

        assert await process.wait(STOP_SECONDS) == 0


async def test_a_port_that_is_taken_is_one_clear_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with gateway(tmp_path, PORT=str(port)) as process:
            line = json.loads((await process.line("cannot listen", timeout=60)).string)

            assert line["message"] == f"cannot listen on 127.0.0.1:{port} (PORT): Address already in use"
            assert "exception" not in line
            assert await process.wait(STOP_SECONDS) == 1


OAUTH = {
    "GITHUB_OAUTH_CLIENT_ID": "id",
    "GITHUB_OAUTH_CLIENT_SECRET": "secret",
    "GITHUB_OAUTH_REDIRECT_URL": "https://hub.example/services/providers/code/oauth/github/callback",
}


@pytest.mark.nats
async def test_a_gateway_with_bundles_in_nats_and_connect_with_github_holds_one_connection(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "nats", monitoring_port=free_ports(1)[0]) as nats:
        await nats.declare()
        environ = {**nats.environment, **OAUTH}
        async with gateway(tmp_path, **environ) as process, aiohttp.ClientSession(await address(process)) as session:

            async def begins() -> bool:
                async with session.get("/oauth/github/start?state=x", allow_redirects=False) as response:
                    return response.status == 302

            await until(begins)
            assert await nats.clients() == ["gateway"]

            async with session.get("/readyz") as response:
                assert (await response.json())["pings"] == {}


PURPOSES = {
    "bundles in NATS": ({}, "commits, checkouts"),
    "Connect with GitHub": (OAUTH | {"CODE_COMMIT_BUNDLE_DIR": "/nowhere"}, "Connect with GitHub"),
    "both": (OAUTH, "commits, checkouts, Connect with GitHub"),
}


@pytest.mark.parametrize(("environ", "waiting"), PURPOSES.values(), ids=PURPOSES)
async def test_a_gateway_without_a_connection_to_nats_says_what_waits_for_it(
    tmp_path: Path, environ: dict[str, str], waiting: str
) -> None:
    key = tmp_path / "gateway.nk"
    key.write_text("no seed")
    async with gateway(tmp_path, NATS_NKEY=str(key), **environ) as process:
        said = json.loads((await process.line("no connection to NATS", timeout=60)).string)

        assert said["message"].startswith(f"no connection to NATS for {waiting}; trying again: NATS_NKEY: ")


async def test_a_gateway_with_bundles_in_a_directory_and_without_connect_with_github_never_connects(
    tmp_path: Path,
) -> None:
    async with gateway(tmp_path, CODE_COMMIT_BUNDLE_DIR=str(tmp_path)) as process:
        await address(process)
        os.kill(process.pid, signal.SIGTERM)
        assert await process.wait(STOP_SECONDS) == 0

    assert not [line for line in process.lines if "connecting to NATS" in line]
