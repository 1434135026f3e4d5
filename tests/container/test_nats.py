"""The nats-server of the image does what the provider builds on. Where no engine can be started, the local binary is tested."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nats
import pytest
from engine import Engine
from nats.js.api import RetentionPolicy, StreamConfig
from nats.js.errors import KeyWrongLastSequenceError
from testcontainers.core.container import DockerContainer

from devstack.paths import VENV_BIN
from devstack.ports import LOOPBACK, free_ports

START_TIMEOUT = 60.0


@pytest.fixture
def nats_url(engine_or_none: Engine | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (port,) = free_ports(1)
    command = ["-a", LOOPBACK, "-p", str(port), "-js", "-sd"]
    if engine_or_none is not None:
        monkeypatch.setenv("DOCKER_HOST", engine_or_none.environ["DOCKER_HOST"])
        server = in_container([*command, "/var/lib/kedge-code/nats"])
    else:
        server = as_process([*command, str(tmp_path)])
    with server:
        yield f"nats://{LOOPBACK}:{port}"


@contextmanager
def in_container(arguments: list[str]) -> Iterator[None]:
    # Its helper container, which removes what a killed run leaves, would be pulled from a registry.
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
    # The engine has no network of its own, so that the host's stays as it is.
    container = DockerContainer(
        "kedge-code-provider:dev",
        command=arguments,
        entrypoint=["/opt/code-provider/bin/nats-server"],
        network_mode="host",
        read_only=True,
        cap_drop=["ALL"],
    )
    with container:
        yield


@contextmanager
def as_process(arguments: list[str]) -> Iterator[None]:
    with subprocess.Popen([VENV_BIN / "nats-server", *arguments], stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


async def ignore(problem: Exception) -> None:
    """Its refusals are no news while it starts."""


async def connected(url: str) -> nats.NATS:
    async with asyncio.timeout(START_TIMEOUT):
        while True:
            try:
                return await nats.connect(url, allow_reconnect=False, error_cb=ignore)
            except (OSError, nats.errors.Error):
                await asyncio.sleep(0.2)


async def test_a_newer_event_replaces_the_older_one_and_a_bucket_refuses_a_second_create(nats_url: str) -> None:
    client = await connected(nats_url)
    try:
        js = client.jetstream()
        await js.add_stream(
            StreamConfig(
                name="EVENTS", subjects=["events.>"], retention=RetentionPolicy.WORK_QUEUE, max_msgs_per_subject=1
            )
        )
        await js.publish("events.a", b"older")
        await js.publish("events.a", b"newer")
        subscription = await js.pull_subscribe("events.>", "worker")
        (message,) = await subscription.fetch(1, timeout=10)
        assert message.data == b"newer"
        await message.ack_sync()
        bucket = await js.create_key_value(bucket="LOCKS")
        await bucket.create("object", b"mine")
        with pytest.raises(KeyWrongLastSequenceError):
            await bucket.create("object", b"yours")
    finally:
        await client.close()
