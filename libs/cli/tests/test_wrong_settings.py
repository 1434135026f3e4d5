"""Every process with every setting missing or wrong: one clear line, an exit code that is not 0, and no trace.

The cases follow from the settings models, so a new setting is covered by itself. One whose every text is accepted must be named
in ``ANY_TEXT``, with what shows that it is wrong.
"""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices, BaseModel

from code_provider import __main__ as command
from code_provider.init_settings import InitSettings
from code_provider.serve_settings import ServeSettings
from code_provider.services import SERVICES
from codecommon.process.settings import ServiceSettings, SettingsError
from devstack.nats import NatsServer
from devstack.processes import Process

START_SECONDS = 90


def settings_of(service: str) -> type[ServiceSettings]:
    """What the service's entry point passes to ``run``."""
    module = importlib.import_module(f"{service.replace('-', '_')}.__main__")
    given: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run", lambda *arguments: given.extend(arguments))
        module.main()
    assert given[0] == service
    return given[1]


PROCESSES: dict[str, type[ServiceSettings]] = {
    "init": InitSettings,
    "serve": ServeSettings,
    **{service: settings_of(service) for service in SERVICES},
}


def variables(model: type[BaseModel]) -> Iterator[str]:
    for field in model.model_fields.values():
        match field.validation_alias:
            case str() as name:
                yield name
            case AliasChoices(choices=names):
                yield from (str(name) for name in names)
            case _ if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from variables(field.annotation)
            case _:
                pass


WRONG = ("no such thing: %*", "-1", "/nowhere/at/all", "://", "http://nobody:secret-of-theirs@/x", "x" * 5000)

ANY_TEXT = {
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "read by the OpenTelemetry SDK, which goes on without traces",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "read by the OpenTelemetry SDK, which goes on without traces",
    "OTEL_TRACES_EXPORTER": "read by the OpenTelemetry SDK; anything but otlp means no traces",
    "OTEL_SDK_DISABLED": "a switch that true alone turns on",
    "CODE_SERVE_INIT": "a switch that true alone turns on",
    "KEDGE_HUB_TOKEN_FILE": "the file may appear later; until then the gateway logs that it cannot read it",
    "CODE_HEALTH_HOST": "the process cannot listen there",
    "CODE_GATEWAY_HOST": "the process cannot listen there",
    "HOME": "the data folder cannot be made in it",
    "XDG_DATA_HOME": "the data folder cannot be made in it",
    "CODE_DATA_DIR": "it cannot be written",
    "KEDGE_SCHEMAS_DIR": "init finds no schemas there",
    "KEDGE_CATALOGENTRY_FILE": "init cannot read it",
    "KEDGE_HUB_TOKEN": "the hub refuses the heartbeat, which the gateway logs",
    "KEDGE_HUB_INSECURE": "a switch that true alone turns on",
    "KEDGE_DEV_ALLOW_TENANT_QUERY": "a switch that true alone turns on",
    "GITHUB_OAUTH_CLIENT_ID": "GitHub does not know it",
    "GITHUB_OAUTH_CLIENT_SECRET": "GitHub does not know it",
    "GITHUB_OAUTH_SCOPES": "GitHub does not know them",
    "CODE_MCP_TOOLS": "the gateway names those that it does not have",
    "CODE_MCP_EXCLUDE_TOOLS": "the gateway names those that it does not have",
}


def refusals(model: type[ServiceSettings], variable: str) -> Iterator[tuple[str, str]]:
    """A wrong value, and the line."""
    for value in WRONG:
        try:
            model.load({variable: value})
        except SettingsError as error:
            yield value, str(error)


CASES = [(process, name) for process, model in PROCESSES.items() for name in dict.fromkeys(variables(model))]


def test_the_models_hold_every_setting() -> None:
    names = {name for _, name in CASES}
    assert {
        "NATS_URL",
        "NATS_NKEY",
        "CODE_RESYNC_INTERVAL",
        "PORT",
        "CODE_PACKAGE_CRAWL_INTERVAL",
        "CODE_DATA_DIR",
    } <= names
    assert ANY_TEXT.keys() <= names, "a setting that is gone"


@pytest.mark.parametrize(("process", "variable"), CASES)
def test_a_wrong_value_is_refused_by_name_in_one_line(
    process: str, variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    refused = dict(refusals(PROCESSES[process], variable))
    if variable in ANY_TEXT:
        return
    assert refused, f"every text is accepted of {variable}: validate it, or say in ANY_TEXT what shows that it is wrong"
    for name in dict(CASES_OF[process]):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CODE_DATA_DIR", str(tmp_path / "data"))
    value = next(iter(refused))
    monkeypatch.setenv(variable, value)

    code = exit_code_of(process)

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.removeprefix("code-provider ").startswith(f"{process}: ")
    assert variable.rpartition("_")[0] in line
    assert "; accepted: " in line or " not " in line
    assert "secret-of-theirs" not in "".join(refused.values())


CASES_OF = {process: [(name, None) for p, name in CASES if p == process] for process in PROCESSES}


def exit_code_of(process: str) -> int:
    try:
        return command.main([process])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else -1


@pytest.mark.parametrize("process", PROCESSES)
def test_no_setting_is_required(process: str) -> None:
    """What is mounted late, such as the kubeconfig, is waited for. init alone needs it at once."""
    PROCESSES[process].load({})


# ---- what only the start shows


Run = Callable[..., Awaitable[Process]]


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield str(taken.getsockname()[1])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    garbage = tmp_path / "garbage"
    garbage.write_text("nothing that anybody can use")
    empty = tmp_path / "empty"
    empty.mkdir()
    return {"garbage": str(garbage), "empty": str(empty), "missing": str(tmp_path / "missing")}


async def ends_with_one_line(process: Process, *words: str) -> None:
    assert await process.wait(START_SECONDS) not in (0, None)
    # The client sends CONNECT and then PING. Where the server has refused the one and closed the connection before the other
    # arrives, the connection is reset with the refusal unread, and the client tries again.
    unread = ("NATS: ConnectionResetError", "NATS: BrokenPipeError")
    bad = [line for line in process.lines if not any(word in line for word in (" INFO ", " DEBUG ", *unread))]
    assert len(bad) == 1, process.lines
    for word in words:
        assert word in bad[0]
    assert "Traceback" not in "".join(process.lines)


# With a NATS that does not answer, init says that, too.
NO_NATS = {"NATS_URL": ""}
AT_START = [
    ("init", {"KUBECONFIG": "{missing}", **NO_NATS}, ("there is no file",)),
    ("init", {"KUBECONFIG": "{garbage}", **NO_NATS}, ("garbage",)),
    (
        "init",
        {"KUBECONFIG": "{garbage}", "KEDGE_CATALOGENTRY_FILE": "{missing}", **NO_NATS},
        ("cannot read", "missing"),
    ),
    ("serve", {"CODE_DATA_DIR": "{garbage}/data"}, ("CODE_DATA_DIR",)),
    ("watcher", {"CODE_HEALTH_PORT": "{taken}", "CODE_HEALTH_HOST": "127.0.0.1"}, ("CODE_HEALTH_PORT", "in use")),
    ("watcher", {"CODE_HEALTH_HOST": "nowhere.invalid"}, ("CODE_HEALTH_PORT", "nowhere.invalid")),
    ("gateway", {"PORT": "{taken}", "CODE_GATEWAY_HOST": "127.0.0.1"}, ("PORT", "in use")),
    ("gateway", {"CODE_MCP_TOOLS": "no_such_tool"}, ("CODE_MCP_TOOLS", "no_such_tool")),
    ("watcher", {"NATS_NKEY": "{garbage}"}, ("NATS_NKEY", "holds no seed")),
    ("repository-svc", {"NATS_NKEY": "{empty}"}, ("NATS_NKEY", "repository-svc.nk")),
    ("connection-svc", {"NATS_CREDS": "{garbage}"}, ("NATS_CREDS",)),
    ("access-svc", {"NATS_CA": "{garbage}"}, ("NATS_CA",)),
    ("package-crawler", {"NATS_CERT": "{garbage}", "NATS_KEY": "{garbage}"}, ("NATS_CERT and NATS_KEY",)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "environ", "words"), AT_START)
async def test_what_only_the_start_shows_is_one_line_too(
    start_process: Run,
    files: dict[str, str],
    taken_port: str,
    name: str,
    environ: dict[str, str],
    words: tuple[str, ...],
) -> None:
    given = {key: value.format(taken=taken_port, **files) for key, value in environ.items()}
    process = await start_process(sys.executable, "-m", "code_provider", name, environ={**COMMON, **given})
    await ends_with_one_line(process, *words)


COMMON = {"PATH": "/usr/bin:/bin", "CODE_LOG_FORMAT": "text", "PORT": "0", "NATS_URL": "nats://127.0.0.1:9"}


@pytest.mark.slow
@pytest.mark.nats
async def test_credentials_that_nats_refuses_are_one_line(start_process: Run, tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        environ = {**COMMON, "NATS_URL": server.address, "NATS_USER": "watcher", "NATS_PASSWORD": "wrong-0123456789"}
        process = await start_process(sys.executable, "-m", "code_provider", "watcher", environ=environ)
        await ends_with_one_line(process, "NATS refuses the credentials", "NATS_PASSWORD")
        assert "wrong-0123456789" not in "".join(process.lines)
