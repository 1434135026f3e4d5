"""`docker compose up` ends with the address of a portal, and `make demo`'s steps succeed on that stack."""

from __future__ import annotations

import json
import re
import ssl
import time
import urllib.request
from collections.abc import Iterator

import pytest
from engine import Engine

from devstack.ports import free_ports

PROJECT = "code-provider-test"
UP_TIMEOUT = 1200.0
SHOW_TIMEOUT = 900.0


class Stack:
    """The project of this test, at free ports of loopback."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.hub_port, plain, github = free_ports(3)
        self._environ = {
            "CODE_DEV_HUB_PORT": str(self.hub_port),
            "CODE_DEV_HUB_PLAIN_PORT": str(plain),
            "CODE_DEV_GITHUB_PORT": str(github),
        }

    def compose(self, *arguments: str, command: str = "hub", timeout: float = 300.0) -> str:
        environ = {**self._environ, "CODE_DEV_COMMAND": command}
        return self._engine.run(
            *self._engine.compose, "-p", PROJECT, *arguments, environ=environ, timeout=timeout
        ).stdout

    def hub_says(self, wanted: str, timeout: float) -> str:
        """What the hub has said, once `wanted` is in it."""
        deadline = time.monotonic() + timeout
        while True:
            said = self._engine.docker("logs", self._container("hub")).stdout
            if re.search(wanted, said):
                return said
            assert time.monotonic() < deadline, (
                f"no {wanted!r} after {timeout:g} s:\n{self.compose('logs', '--no-color')[-8000:]}"
            )
            time.sleep(1)

    def exit_code_of(self, service: str, timeout: float) -> int:
        return int(self._engine.docker("wait", self._container(service), timeout=timeout).stdout)

    def _container(self, service: str) -> str:
        return self.compose("ps", "--all", "-q", service).strip()


@pytest.fixture
def stack(engine: Engine) -> Iterator[Stack]:
    made = Stack(engine)
    try:
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "20")


def get(url: str) -> tuple[int, bytes]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with urllib.request.urlopen(url, timeout=30, context=context) as answer:
        return answer.status, answer.read()


def test_up_ends_with_the_address_of_a_portal_and_the_demo_succeeds(stack: Stack) -> None:
    stack.compose("up", "--detach", "--no-build", timeout=UP_TIMEOUT)
    address = rf"https://127\.0\.0\.1:{stack.hub_port}/ui/"
    said = stack.hub_says(address, UP_TIMEOUT)
    assert re.search(rf"{address}\s*$", said), "the address comes last"
    status, page = get(f"https://127.0.0.1:{stack.hub_port}/ui/")
    assert status == 200
    assert b"<html" in page
    status, script = get(f"https://127.0.0.1:{stack.hub_port}/ui/providers/code/main.js")
    assert status == 200
    assert b"kedge-provider-code" in script
    said = stack.compose("exec", "-T", "gateway", "sh", "-c", "code-provider doctor --json || true")
    found = {finding["check"]: finding["status"] for finding in map(json.loads, said.splitlines())}
    assert found["nats permissions"] == "ok", said
    # From inside, GitHub's own hosts are not reached, and a browser's loopback is another one.
    assert {name for name, status in found.items() if status != "ok"} <= {"git hosts", "oauth redirect"}, said
    # The hub alone starts again, on the workspaces and the simulator's accounts of its first start.
    stack.compose("up", "--detach", "--no-build", "--no-deps", "hub", command="demo", timeout=UP_TIMEOUT)
    code = stack.exit_code_of("hub", SHOW_TIMEOUT)
    assert code == 0, stack.compose("logs", "--no-color", "hub")[-6000:]
