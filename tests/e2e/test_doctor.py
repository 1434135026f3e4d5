"""``code-provider doctor`` beside the services on the real stack: all green, and red for what is broken."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from devstack.nats import NatsServer
from devstack.processes import Process
from devstack.provider import ProviderInstallation
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


async def examined(environment: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Exit code, and the findings by check."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "code_provider", "doctor", "--json"), env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(150):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    found = [json.loads(line) for line in output.splitlines()]
    assert process.returncode is not None
    return process.returncode, {finding["check"]: finding for finding in found}


async def test_it_is_green_while_everything_works_and_names_what_is_broken(
    services: Process,
    provider: ProviderInstallation,
    services_nats: NatsServer,
    github_sim: SimulatorProcess,
    tenant: Tenant,
) -> None:
    environment = {
        **provider.environment,
        **services_nats.environment,
        "CODE_ALLOWED_GIT_HOSTS": github_sim.url,
        # The way to api.github.com, which ends here.
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
    }

    code, found = await examined(environment)

    assert {name: finding["status"] for name, finding in found.items()} == {
        **dict.fromkeys(found, "ok"),
        "oauth redirect": "skipped",
        "git hosts": "warning",
    }, found
    assert code == 0

    broken = {"NATS_URL": "nats://127.0.0.1:9", "CODE_WORKSPACE_PATH": "root:other", "KEDGE_PROVIDER_NAME": "another"}
    code, found = await examined({**environment, **broken})

    assert code == 1
    failed = {name: finding["fix"] for name, finding in found.items() if finding["status"] == "failed"}
    assert failed.keys() == {"virtual workspace", "nats", "hub"}
    assert all(failed.values())
