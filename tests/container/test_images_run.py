"""The images, run as a cluster runs them: read-only, as uid 65532, without capabilities."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from engine import Engine

from code_provider.services import SERVICES

IMAGE = "kedge-code-provider:dev"
IMAGES = (IMAGE, *(f"kedge-code-provider-{service}:dev" for service in SERVICES))
HARDENED = ("--read-only", "--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges")
HEALTHY_TIMEOUT = 300.0


def output(engine: Engine, *arguments: str) -> str:
    return engine.docker("run", "--rm", *HARDENED, *arguments).stdout


@contextmanager
def container(engine: Engine, *arguments: str) -> Iterator[str]:
    """A container that runs in the background. It is removed with its volume."""
    identifier = engine.docker("run", "--detach", *HARDENED, *arguments).stdout.split()[-1]
    try:
        yield identifier
    finally:
        engine.docker("rm", "--force", "--volumes", identifier)


def wait_healthy(engine: Engine, identifier: str) -> None:
    deadline = time.monotonic() + HEALTHY_TIMEOUT
    while True:
        state = json.loads(engine.docker("inspect", "--format", "{{json .State}}", identifier).stdout)
        if state["Health"]["Status"] == "healthy":
            return
        logs = engine.docker("logs", identifier).stdout[-3000:]
        assert state["Running"], f"it ended with {state['ExitCode']}:\n{logs}"
        assert time.monotonic() < deadline, f"not healthy after {HEALTHY_TIMEOUT:g} s: {state['Health']}\n{logs}"
        # The engine asks the container itself, every ten seconds; this only looks at what it found.
        time.sleep(0.5)


def test_the_combined_image_prints_its_usage(engine: Engine) -> None:
    said = output(engine, IMAGE, "--help")
    assert said.startswith("usage: code-provider")


def test_an_unknown_subcommand_is_exit_code_2(engine: Engine) -> None:
    assert engine.docker("run", "--rm", *HARDENED, IMAGE, "nonsense", check=False).returncode == 2


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_user_health_check_and_licence_and_no_build_tools(engine: Engine, image: str) -> None:
    config = json.loads(engine.docker("image", "inspect", "--format", "{{json .Config}}", image).stdout)
    assert config["User"] == "65532:65532"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    labels = {name.rpartition(".")[2]: value for name, value in config["Labels"].items()}
    assert labels["licenses"] == "Apache-2.0"
    assert labels["title"] == image.removesuffix(":dev")
    assert len(labels["revision"]) == 40
    tools = "pip pip3 uv npm node gcc cc make git"
    found = output(engine, "--entrypoint=sh", image, "-c", f"command -v {tools.replace(' ', '; command -v ')}; id -u")
    assert found.split() == ["65532"]


def test_the_schemas_and_the_portal_are_where_init_and_the_gateway_look(engine: Engine) -> None:
    script = (
        "import pathlib, gateway.assets as a; "
        "print(len(list(pathlib.Path('/etc/kedge/schemas').glob('*.yaml'))) >= 8, (a.BUNDLED / 'main.js').is_file())"
    )
    assert output(engine, "--entrypoint=python", IMAGE, "-c", script).split() == ["True", "True"]


def test_serve_is_healthy_on_a_read_only_root_file_system_and_stops_in_order(engine: Engine) -> None:
    with container(engine, IMAGE) as identifier:
        wait_healthy(engine, identifier)
        asked = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8083/healthz').read().decode())"
        answered = engine.docker("exec", identifier, "python", "-c", asked).stdout
        assert json.loads(answered) == {"status": "ok"}
        assert engine.docker("exec", identifier, "touch", "/written", check=False).returncode != 0
        engine.docker("stop", "--time", "30", identifier)
        assert engine.docker("inspect", "--format", "{{.State.ExitCode}}", identifier).stdout.strip() == "0"


def test_a_service_is_healthy_in_its_image_without_kcp_and_nats(engine: Engine) -> None:
    with container(engine, "kedge-code-provider-watcher:dev") as identifier:
        wait_healthy(engine, identifier)


def test_a_service_runs_by_its_name_in_the_combined_image(engine: Engine) -> None:
    with container(engine, IMAGE, "gateway") as identifier:
        wait_healthy(engine, identifier)


def test_doctor_reports_what_is_missing_without_a_trace(engine: Engine) -> None:
    done = engine.docker("run", "--rm", *HARDENED, IMAGE, "doctor", check=False)
    assert done.returncode not in (0, 2)
    assert "Traceback" not in done.stdout
