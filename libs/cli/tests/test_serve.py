"""``code-provider serve`` as it is run: the six services and a real nats-server, without a kcp."""

import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from code_provider.data_folder import DataFolder, DataFolderUnusable
from code_provider.serve import health_port, own_environ
from codecommon.messaging.topology import USERS
from devstack.kubeconfig import kubeconfig, write_private
from devstack.processes import Process, wait_gone

SERVICES = {"watcher", "connection-svc", "repository-svc", "access-svc", "package-crawler", "gateway"}

Serve = Callable[..., Awaitable[Process]]

# Six services on a busy machine take their time to import.
pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]
START_SECONDS = 90


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "CODE_DATA_DIR": str(tmp_path / "data"),
        "CODE_GATEWAY_HOST": "127.0.0.1",
        "PORT": "0",
        "KUBECONFIG": str(tmp_path / "not-there-yet"),
        "CODE_LOG_FORMAT": "json",
        "CODE_LOG_LEVEL": "debug",
    }


@pytest.fixture
def serve(start_process: Serve, environ: dict[str, str]) -> Serve:
    async def start(**more: str) -> Process:
        return await start_process(sys.executable, "-m", "code_provider", "serve", environ={**environ, **more})

    return start


@pytest.fixture
def children() -> Callable[[int], dict[str, int]]:
    def children(parent: int) -> dict[str, int]:
        """Name → pid of the processes that ``parent`` has started."""
        pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return {Path(f"/proc/{pid}/comm").read_text().strip(): int(pid) for pid in pids}

    return children


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


async def gateway_address(process: Process) -> str:
    return f"http://127.0.0.1:{(await process.line(r'listening on port ([0-9]+)', timeout=START_SECONDS))[1]}"


async def test_everything_comes_up_answers_and_stops_within_ten_seconds(
    serve: Serve, children: Any, environ: dict[str, str]
) -> None:
    process = await serve()
    address = await gateway_address(process)
    async with aiohttp.ClientSession() as session, session.get(f"{address}/healthz") as response:
        assert (response.status, await response.read()) == (200, b'{"status":"ok"}')
    running = children(process.pid)
    assert set(running) == {*SERVICES, "nats-server"}
    config = Path(environ["CODE_DATA_DIR"], "nats", "nats-server.json")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600

    os.kill(process.pid, signal.SIGTERM)

    assert await process.wait(10) == 0
    await wait_gone(*running.values())
    keys = sorted(config.parent.glob("keys/*.nk"))
    assert {key.stem for key in keys} == set(USERS)
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    for key in keys:
        seed = key.read_text().strip()
        assert seed not in config.read_text()
        assert not [line for line in process.lines if seed in line]
    assert {json.loads(line)["service"] for line in process.lines} == {
        *SERVICES,
        "init",
        "nats-server",
        "code-provider",
    }


async def test_nats_server_is_given_none_of_our_tokens(serve: Serve, children: Any) -> None:
    process = await serve(KEDGE_HUB_TOKEN="hub-token")
    await gateway_address(process)

    given = Path(f"/proc/{children(process.pid)['nats-server']}/environ").read_bytes()

    assert b"PATH=" in given
    assert b"hub-token" not in given


@pytest.mark.parametrize("secret", ["KEDGE_HUB_TOKEN", "GITHUB_OAUTH_CLIENT_SECRET", "GITHUB_OAUTH_COOKIE_KEYS"])
def test_the_secrets_of_the_gateway_are_given_to_the_gateway_alone(secret: str) -> None:
    environ = {secret: "secret", "CODE_WORKSPACE_PATH": "root:code"}

    given = {service: own_environ(service, environ) for service in SERVICES}

    assert {service for service, own in given.items() if secret in own} == {"gateway"}
    assert all("CODE_WORKSPACE_PATH" in own for own in given.values())


def test_each_service_has_a_port_of_its_own_for_its_metrics_and_none_is_fixed_by_default() -> None:
    fixed = [health_port(service, 9090) for service in ("watcher", "connection-svc", "repository-svc")]
    assert fixed == [9090, 9091, 9092]
    assert health_port("gateway", 9090) == 9095
    assert {health_port(service, 0) for service in SERVICES} == {0}


async def test_init_waits_for_the_kubeconfig_beside_the_services_and_is_tried_until_it_succeeds(
    serve: Serve, children: Any, environ: dict[str, str]
) -> None:
    process = await serve(CODE_SERVE_INIT="true")
    await gateway_address(process)
    assert set(children(process.pid)) == {*SERVICES, "nats-server", "init"}

    nobody_listens = "https://127.0.0.1:1"
    write_private(Path(environ["KUBECONFIG"]), kubeconfig(nobody_listens, "token"))

    said = await process.line(r'.*"init: cannot .*', timeout=30)
    assert json.loads(said[0])["service"] == "init"
    await process.line("init exited with code 1; starting it again in 1 s")


@pytest.mark.parametrize("broken", ["open", "link"])
def test_a_store_that_another_user_can_reach_is_refused(tmp_path: Path, broken: str) -> None:
    store = tmp_path / "nats"
    if broken == "open":
        store.mkdir()
        store.chmod(0o707)
    else:
        store.symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").mkdir()

    with DataFolder(tmp_path) as folder, pytest.raises(DataFolderUnusable, match=str(store)):
        folder.private("nats")


async def test_a_second_serve_on_the_same_folder_is_refused(serve: Serve, environ: dict[str, str]) -> None:
    first = await serve()
    await gateway_address(first)

    second = await serve()

    assert await second.wait(START_SECONDS) == 1
    assert second.lines == [
        f"code-provider serve: {environ['CODE_DATA_DIR']} is in use by another code-provider serve (process {first.pid});"
        " stop it, or set CODE_DATA_DIR to another folder"
    ]


async def test_nothing_outlives_a_serve_that_was_killed_and_the_next_one_starts(serve: Serve, children: Any) -> None:
    first = await serve()
    await gateway_address(first)
    running = children(first.pid)

    os.kill(first.pid, signal.SIGKILL)

    await wait_gone(*running.values())
    await gateway_address(await serve())


async def test_a_nats_server_that_crashed_comes_back_on_its_port_and_store(serve: Serve, children: Any) -> None:
    process = await serve()
    await gateway_address(process)
    listening = r"Listening for client connections on 127.0.0.1:([0-9]+)"
    port = next(line.partition("127.0.0.1:")[2] for line in process.lines if "Listening for client" in line)

    os.kill(children(process.pid)["nats-server"], signal.SIGKILL)

    await process.line("nats-server was ended by SIGKILL; starting it again in 1 s")
    assert (await process.line(listening))[1] == port.split('"')[0]


async def test_with_nats_url_no_server_is_brought_along(serve: Serve, children: Any, taken_port: int) -> None:
    process = await serve(NATS_URL=f"nats://127.0.0.1:{taken_port}")
    await gateway_address(process)

    assert set(children(process.pid)) == SERVICES


async def test_a_wrong_setting_of_any_service_is_one_line_and_exit_code_2(serve: Serve) -> None:
    process = await serve(CODE_RESYNC_INTERVAL="often")

    assert await process.wait(START_SECONDS) == 2
    assert process.lines == [
        "code-provider serve: CODE_RESYNC_INTERVAL: 'often' is not a duration; accepted: a Go duration such as 90s, 2m or"
        " 1h30m, longer than zero"
    ]


async def test_a_wrong_setting_of_one_service_stops_all_with_exit_code_2(serve: Serve) -> None:
    process = await serve(PORT="http")

    assert await process.wait(START_SECONDS) == 2
    assert [line for line in process.lines if "gateway: PORT: not a whole number" in line]


async def test_a_port_of_the_gateway_that_is_taken_is_said_clearly(serve: Serve, taken_port: int) -> None:
    process = await serve(PORT=str(taken_port))

    await process.line(
        rf"cannot listen on 127.0.0.1:{taken_port} \(PORT\): Address already in use", timeout=START_SECONDS
    )
    await process.line("gateway exited with code 1; starting it again in 1 s")
