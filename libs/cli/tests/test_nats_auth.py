"""``code-provider nats-auth``: what it writes is what a real nats-server runs with."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from code_provider import __main__ as command
from codecommon.messaging.bus import Bus
from codecommon.messaging.topology import INIT, USERS
from codecommon.process.service import CannotRun
from codecommon.process.settings import NatsSettings
from devstack.devhub.certificate import server_context
from devstack.paths import VENV_BIN
from devstack.ports import LOOPBACK, free_ports
from devstack.processes import Process


def run(*arguments: str | Path) -> int:
    return command.main(["nats-auth", *map(str, arguments)])


def test_each_user_has_a_key_file_and_the_configuration_holds_nothing_secret(tmp_path: Path) -> None:
    assert run(tmp_path / "auth") == 0
    config = (tmp_path / "auth" / "nats-server.conf").read_text()
    keys = {path.stem: path for path in (tmp_path / "auth").glob("*.nk")}
    assert keys.keys() == USERS.keys()
    assert stat.S_IMODE((tmp_path / "auth").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.values()} == {0o600}
    assert not [name for name, path in keys.items() if path.read_text().strip() in config]
    assert len({path.read_text() for path in keys.values()}) == len(keys)


def test_a_second_run_keeps_the_keys_and_makes_those_that_were_deleted(tmp_path: Path) -> None:
    run(tmp_path)
    before = {path.name: path.read_text() for path in tmp_path.glob("*.nk")}
    (tmp_path / "watcher.nk").unlink()
    assert run(tmp_path) == 0
    after = {path.name: path.read_text() for path in tmp_path.glob("*.nk")}
    assert {name for name in before if before[name] != after[name]} == {"watcher.nk"}


def test_what_cannot_be_used_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    capsys.readouterr()
    (tmp_path / "gateway.nk").write_text("SUNOTAKEY")
    assert run(tmp_path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"nats-auth: {tmp_path / 'gateway.nk'} holds no nkey; delete it to have a new one made"
    assert run(tmp_path / "gateway.nk" / "below") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nats-auth: cannot write to ")


def test_half_of_tls_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(tmp_path, "--tls-cert", "cert.pem")
    assert end.value.code == 2
    assert "--tls-cert and --tls-key belong together" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.nats
async def test_a_server_with_tls_takes_clients_that_trust_it_and_show_a_certificate(tmp_path: Path) -> None:
    server_context(tmp_path)
    pem = tmp_path / "devhub.pem"
    auth, port = tmp_path / "auth", free_ports(1)[0]
    run(auth, "--store-dir", tmp_path / "store", "--tls-cert", pem, "--tls-key", pem, "--tls-ca", pem)
    assert json.loads((auth / "nats-server.conf").read_text())["jetstream"] == {"store_dir": str(tmp_path / "store")}
    url = (f"tls://{LOOPBACK}:{port}",)
    trusting = NatsSettings(url=url, nkey=auth, ca=pem, cert=pem, key=pem)
    process = Process(
        "nats-server",
        [VENV_BIN / "nats-server", "-c", auth / "nats-server.conf", "-a", LOOPBACK, "-p", str(port)],
        log_file=tmp_path / "nats-server.log",
    )
    async with process, asyncio.timeout(60):
        async with Bus.connect(trusting, INIT) as bus:
            await bus.declare()
        async with Bus.connect(trusting, "gateway") as bus:
            await bus.require("gateway")
        for doubtful in (NatsSettings(url=url, nkey=auth), NatsSettings(url=url, nkey=auth, ca=pem)):
            with pytest.raises((TimeoutError, CannotRun)):
                async with asyncio.timeout(2), Bus.connect(doubtful, "gateway"):
                    pass
