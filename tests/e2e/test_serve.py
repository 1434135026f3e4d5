"""``code-provider serve`` with its embedded nats-server, as an operator starts, rotates, crashes and stops it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import yaml

from devstack.cluster import Cluster
from devstack.devhub import DevHub
from devstack.devhub.provisioning import ProvisionedProvider
from devstack.errors import ApiError
from devstack.githubsim import SimControl
from devstack.kcp import SECRETS_CLAIM, Kcp
from devstack.kubeconfig import kubeconfig, load_access, write_private
from devstack.own_instance import EXPORT
from devstack.processes import Process
from devstack.provider import ProviderInstallation, provision_own, run_init, wait_serving
from devstack.resources import Manifest, is_gone, is_ready
from devstack.scenario import Scenario, deploy_key, repository, unique
from devstack.settings import Settings
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SERVICES = {"watcher", "connection-svc", "repository-svc", "access-svc", "package-crawler", "gateway"}
GO_PROVIDER = Path(__file__).resolve().parents[1] / "fixtures/go-provider"
NEED_KCP = ("watcher", "connection-svc", "repository-svc", "access-svc", "package-crawler")


class Serving:
    """One ``code-provider serve``, seen from outside."""

    def __init__(self, installation: ProviderInstallation, process: Process, session: aiohttp.ClientSession) -> None:
        self.installation = installation
        self.process = process
        self.kubeconfig = Path(installation.environment["KEDGE_PROVIDER_KUBECONFIG"])
        self._session = session

    def log(self) -> str:
        return self.process.log_file.read_text()

    async def logged(self, pattern: str, timeout: float = 30.0) -> re.Match[str]:
        """The last line of the log that matches ``pattern``, once there is one."""
        found: list[re.Match[str]] = []

        async def look() -> bool:
            found[:] = re.finditer(pattern, self.log())
            return bool(found)

        await self.process.wait_ready(look, timeout=timeout)
        return found[-1]

    def children(self) -> dict[str, int]:
        """Name to pid."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        pids = [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]
        return {Path(f"/proc/{pid}/comm").read_text().strip(): int(pid) for pid in pids}

    async def health(self, service: str, path: str) -> tuple[int, str]:
        """Status and body of an answer at the health port that the service's newest process has logged."""
        line = await self.logged(rf" {service} \S+ health endpoints on (\S+)")
        return await self.get(line[1] + path)

    async def get(self, url: str) -> tuple[int, str]:
        async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=5)) as answer:
            return answer.status, await answer.text()


@dataclass(frozen=True)
class Stage:
    """``serving``, and a tenant whose Connection it has made ready."""

    serving: Serving
    provider: ProvisionedProvider
    tenant: Tenant
    scenario: Scenario
    readiness_without_kubeconfig: dict[str, int]
    log_of_start: str

    async def a_repository_becomes_ready(self, timeout: float = 30.0) -> None:
        name = unique("repo")
        await self.tenant.apply(repository(name, "acme"))
        await self.tenant.wait_for("repositories", name, is_ready, timeout)


@pytest_asyncio.fixture(scope="module")
async def stage(
    kcp: Kcp,
    devhub: DevHub,
    github_sim: SimulatorProcess,
    dev_settings: Settings,
    run_dir: Path,
) -> AsyncIterator[Stage]:
    """A provider workspace for this module only, so no other instance works on its tenant."""
    installation = await provision_own(kcp, run_dir / "serve", dev_settings.environment)
    provisioned = installation.provisioned
    tenant = await devhub.create_tenant()
    await kcp.bind(tenant.cluster, provisioned.workspace_path, EXPORT, [SECRETS_CLAIM])

    environment = {"CODE_ALLOWED_GIT_HOSTS": github_sim.url, "CODE_LOG_LEVEL": "info"}
    process = installation.command("serve", environment)
    serving = Serving(installation, process, kcp.session)
    serving.kubeconfig.unlink()
    async with process, SimControl(github_sim.url) as control:
        await wait_serving(process, installation.url, kcp.session)
        for service in NEED_KCP:
            await serving.logged(rf" {service} \S+ waiting for the kubeconfig: there is no file ")
        readiness = {service: (await serving.health(service, "/readyz"))[0] for service in sorted(SERVICES)}
        write_private(serving.kubeconfig, provisioned.kubeconfig)
        scenario = Scenario(github_sim, control)
        await scenario.connect(tenant, await scenario.account(), timeout=60)
        yield Stage(serving, provisioned, tenant, scenario, readiness, serving.log())
    await devhub.delete_tenant(tenant)


async def test_it_waits_for_its_kubeconfig_and_works_once_there_is_one(stage: Stage) -> None:
    ready_without = {service for service, status in stage.readiness_without_kubeconfig.items() if status == 200}
    assert ready_without == SERVICES - set(NEED_KCP)
    await stage.a_repository_becomes_ready()
    assert (await stage.serving.get(f"{stage.serving.installation.url}/readyz"))[0] == 200
    assert set(stage.serving.children()) == {*SERVICES, "nats-server"}
    assert "starting it again" not in stage.log_of_start


async def test_each_child_tells_its_health_and_its_metrics(stage: Stage) -> None:
    await stage.a_repository_becomes_ready()
    for service in sorted(SERVICES):
        assert (await stage.serving.health(service, "/livez"))[0] == 200
        assert (await stage.serving.health(service, "/readyz"))[0] == 200
    assert '"pings":{"nats":"ok","kcp":"ok"}' in (await stage.serving.health("repository-svc", "/readyz"))[1]
    _, metrics = await stage.serving.health("repository-svc", "/metrics")
    passes = re.search(r'^code_reconcile_results_total\{kind="Repository",result="Ready"\} (\S+)$', metrics, re.M)
    assert passes is not None
    assert float(passes[1]) >= 1
    assert 'code_reconcile_seconds_bucket{kind="Repository",le="1.0"}' in metrics


async def test_while_the_export_serves_the_go_providers_schemas_work_goes_on_and_init_ends_it_within_seconds(
    stage: Stage, kcp: Kcp
) -> None:
    """Nothing waits for the resync: it comes by once an hour."""
    serving, tenant = stage.serving, stage.tenant
    for name in ("site", "kept"):
        await tenant.apply(repository(name, "acme"))
    for name in ("one", "two"):
        await tenant.apply(deploy_key(name, "site"))
    for resource, name in (("repositories", "kept"), ("deploykeys", "one"), ("deploykeys", "two")):
        await tenant.wait_for(resource, name, is_ready)
    logged_before = len(serving.log())

    await _roll_back_to_the_go_provider(kcp.cluster(stage.provider.cluster), tenant)
    # kcp drops what it does not know with the next write, whoever makes it.
    pruned = await tenant.patch("repositories", "kept", {"metadata": {"labels": {"touched": "yes"}}})
    assert "repoID" in pruned["status"]
    assert "origin" not in pruned["status"]
    for resource, name in (("repositories", "site"), ("deploykeys", "one"), ("deploykeys", "two")):
        await tenant.delete(resource, name)
    for resource, name in (("deploykeys", "one"), ("deploykeys", "two"), ("repositories", "site")):
        await tenant.wait_for(resource, name, is_gone)

    status, body = await serving.health("repository-svc", "/readyz")
    assert status == 200
    assert "run `code-provider init` again" in json.loads(body)["degraded"]["schemas"]
    warnings = re.findall(r"(?m)^.*WARNING.* (\S+-svc) .*schemas that are not ours.*$", serving.log()[logged_before:])
    assert "repository-svc" in warnings
    assert len(warnings) == len(set(warnings)), "one line for each process"

    await run_init(serving.installation)
    began = time.monotonic()
    await tenant.wait_for("repositories", "kept", lambda r: is_ready(r) and "origin" in r["status"], 20)
    await stage.scenario.wait_until(
        lambda: _degraded(serving), {}, timeout=20, what="no complaint of any service in /readyz"
    )
    assert time.monotonic() - began < 20


async def _roll_back_to_the_go_provider(workspace: Cluster, tenant: Tenant) -> None:
    """What that provider's ``init`` does to the export. Returns when the tenant's binding has followed."""
    theirs = [yaml.safe_load(path.read_text()) for path in sorted((GO_PROVIDER / "schemas").glob("*.yaml"))]
    for schema in theirs:
        await workspace.create(schema)
    schemas = {schema["spec"]["names"]["plural"]: schema["metadata"]["name"] for schema in theirs}
    resources = [
        {"group": "code.kedge.faros.sh", "name": plural, "schema": schema, "storage": {"crd": {}}}
        for plural, schema in schemas.items()
    ]
    await workspace.patch("apiexports", EXPORT, {"spec": {"resources": resources}})

    def follows(binding: Manifest | None) -> bool:
        bound = (binding or {}).get("status", {}).get("boundResources", [])
        return {resource["schema"]["name"] for resource in bound} == set(schemas.values())

    await tenant.wait_for("apibindings", "code", follows, 60)


async def _degraded(serving: Serving) -> dict[str, dict[str, str]]:
    """What the services say in /readyz of what somebody has to mend; nothing of those that have no complaint."""
    reports = {service: json.loads((await serving.health(service, "/readyz"))[1]) for service in NEED_KCP}
    return {service: report["degraded"] for service, report in reports.items() if "degraded" in report}


async def test_a_rotated_kubeconfig_is_taken_over_and_the_old_token_is_not_needed(stage: Stage, kcp: Kcp) -> None:
    file, workspace = stage.serving.kubeconfig, kcp.cluster(stage.provider.cluster)
    old = load_access(file)
    assert old.token is not None
    fresh = await _another_token(workspace, "provider")
    write_private(file.with_suffix(".new"), kubeconfig(old.server, fresh)).replace(file)
    await workspace.delete("secrets", "provider-token")
    with_old_token = kcp.cluster(stage.provider.cluster, token=old.token)
    await stage.scenario.wait_until(
        lambda: _status_of_a_list(with_old_token), 401, timeout=60, what="an answer to the old token"
    )

    await stage.a_repository_becomes_ready()
    for service in NEED_KCP:
        assert (await stage.serving.health(service, "/readyz"))[0] == 200
        await stage.serving.logged(rf" {service} \S+ the kubeconfig was rotated and is loaded anew")
    assert old.token not in stage.serving.log()
    assert fresh not in stage.serving.log()


async def _another_token(workspace: Cluster, service_account: str) -> str:
    """A second token of a ServiceAccount that has one."""
    name = unique(service_account)
    annotations = {"kubernetes.io/service-account.name": service_account}
    await workspace.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": "default", "annotations": annotations},
            "type": "kubernetes.io/service-account-token",
        }
    )
    filled = await workspace.wait_for("secrets", name, lambda found: bool(found and found.get("data", {}).get("token")))
    assert filled is not None
    return base64.b64decode(filled["data"]["token"]).decode()


async def _status_of_a_list(client: Cluster) -> int:
    try:
        await client.list("secrets")
    except ApiError as refusal:
        return refusal.status
    return 200


@pytest.mark.parametrize("name", ["repository-svc", "nats-server"])
async def test_a_killed_child_is_named_and_started_again_and_work_goes_on(stage: Stage, name: str) -> None:
    before = stage.serving.children()
    os.kill(before[name], signal.SIGKILL)
    await stage.serving.logged(rf"{name} was ended by SIGKILL; starting it again in ")
    await stage.a_repository_becomes_ready(60)
    after = stage.serving.children()
    assert after.pop(name) != before.pop(name)
    assert after == before


async def test_a_second_instance_on_the_same_data_is_refused_in_one_line(stage: Stage, tmp_path: Path) -> None:
    installation = replace(stage.serving.installation, folder=tmp_path)
    async with installation.command("serve") as second, asyncio.timeout(30):
        assert await second.wait() == 1
    line = second.log_file.read_text()
    assert line.count("\n") == 1
    data = installation.environment["CODE_DATA_DIR"]
    first = stage.serving.process.pid
    assert line.startswith(f"code-provider serve: {data} is in use by another code-provider serve (process {first})")
    assert (await stage.serving.get(f"{installation.url}/healthz"))[0] == 200


async def test_sigterm_ends_every_process_within_ten_seconds_and_the_next_start_goes_on(stage: Stage) -> None:
    process = stage.serving.process
    pids = [process.pid, *stage.serving.children().values()]
    began = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    async with asyncio.timeout(15):
        assert await process.wait() == 0
    assert time.monotonic() - began < 10
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert "is killed" not in stage.serving.log()

    await stage.tenant.apply(repository("meanwhile", "acme"))
    await process.start()
    await stage.tenant.wait_for("repositories", "meanwhile", is_ready, 60)
