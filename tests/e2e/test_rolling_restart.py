"""Every service is replaced while there is work, as a rolling update does it: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from devstack.devhub import DevHub
from devstack.githubsim import SimControl
from devstack.kcp import SECRETS_CLAIM, Kcp
from devstack.nats import NatsServer
from devstack.own_instance import EXPORT
from devstack.paths import VENV_BIN
from devstack.ports import LOOPBACK, free_ports
from devstack.processes import Process
from devstack.provider import ProviderInstallation, provision_own, wait_serving
from devstack.resources import is_ready
from devstack.scenario import Account, Scenario, deploy_key, repository
from devstack.settings import Settings
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

SERVICES = ("watcher", "connection-svc", "repository-svc", "access-svc", "package-crawler", "gateway")
LATENCY_SECONDS = 0.05
"""Of the host, so that there are always requests in flight when a process is told to stop."""
AT_ONCE = 8
"""Repositories that the tenant waits for at a time. So there is work throughout, however slow the machine is."""


@dataclass
class Service:
    """One service of the provider, as a Deployment with one replica runs it."""

    name: str
    installation: ProviderInstallation
    environment: dict[str, str]
    session: aiohttp.ClientSession
    address: str = ""
    """Of the gateway: where the Service of Kubernetes would send requests now."""
    _running: Process | None = None
    _starts: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def roll(self) -> None:
        """The new process is ready before the old one is told to stop, as ``maxSurge: 1, maxUnavailable: 0`` has it."""
        port, health = free_ports(2)
        environment = {"PORT": str(port), "CODE_HEALTH_PORT": str(health), "CODE_HEALTH_HOST": LOOPBACK}
        new = Process(
            self.name,
            [VENV_BIN / "python", "-m", self.name.replace("-", "_")],
            log_file=self.installation.folder / f"{self.name}-{next(self._starts)}.log",
            env={**self.installation.environment, **self.environment, **environment},
            cwd=self.installation.folder,
            stop_timeout=20.0,
        )
        old, self._running = self._running, new
        await new.start()
        await new.wait_ready(lambda: self._ready(f"http://{LOOPBACK}:{health}/readyz"), timeout=60)
        self.address = f"http://{LOOPBACK}:{port}"
        if old is not None:
            await _ends_by_itself(old)

    async def stop(self) -> None:
        if self._running is not None:
            await self._running.stop()

    async def _ready(self, url: str) -> bool:
        try:
            async with self.session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False


async def _ends_by_itself(process: Process) -> None:
    """SIGTERM, and then no SIGKILL: what is in flight is finished or given back within the time that Kubernetes allows."""
    process.terminate()
    assert await process.wait(20) == 0, process.tail()
    await process.stop()


@dataclass(frozen=True)
class Stage:
    installation: ProviderInstallation
    tenant: Tenant
    scenario: Scenario
    account: Account


@pytest_asyncio.fixture
async def stage(
    kcp: Kcp, devhub: DevHub, github_sim: SimulatorProcess, dev_settings: Settings, run_dir: Path
) -> AsyncIterator[Stage]:
    """A provider workspace with the API, and a tenant that has bound it. Nothing runs yet."""
    installation = await provision_own(kcp, run_dir / "rolling", dev_settings.environment)
    tenant = await devhub.create_tenant()
    await kcp.bind(tenant.cluster, installation.provisioned.workspace_path, EXPORT, [SECRETS_CLAIM])
    async with SimControl(github_sim.url) as control:
        scenario = Scenario(github_sim, control)
        yield Stage(installation, tenant, scenario, await scenario.account())
    await devhub.delete_tenant(tenant)


@asynccontextmanager
async def _under_load(stage: Stage, made: list[str]) -> AsyncIterator[None]:
    """Makes repositories, each with a key, for as long as the block lasts, and then waits for those that it began."""
    over = asyncio.Event()

    async def one(name: str) -> None:
        made.append(name)
        await stage.tenant.create(repository(name, "acme"))
        await stage.tenant.create(deploy_key(f"{name}-key", name))
        await stage.tenant.wait_for("repositories", name, is_ready, 120)
        await stage.tenant.wait_for("deploykeys", f"{name}-key", is_ready, 120)

    async def tenant(numbers: Iterator[int]) -> None:
        while not over.is_set():
            await one(f"repo-{next(numbers)}")

    await stage.scenario.control.set_switches(latency=LATENCY_SECONDS)
    try:
        async with asyncio.TaskGroup() as group:
            numbers = itertools.count()
            for _ in range(AT_ONCE):
                group.create_task(tenant(numbers))
            try:
                yield
            finally:
                over.set()
    finally:
        await stage.scenario.control.set_switches(latency=0.0)


async def _everything_is_there_once(stage: Stage, made: list[str]) -> None:
    assert len(made) >= 2 * AT_ONCE, "there was too little work for this test to mean something"
    there = await stage.scenario.repositories_of(stage.account.login)
    assert set(there) == set(made)
    writes = await stage.scenario.requests_of(stage.account.login, writes_only=True)
    creates = Counter(entry.path for entry in writes if entry.method == "POST" and entry.status == 201)
    assert creates.pop("/user/repos") == len(made)
    assert creates == {f"/repositories/{repo.id}/keys": 1 for repo in there.values()}
    assert [entry for entry in writes if entry.method != "POST"] == []


async def test_each_service_is_replaced_under_load_and_the_gateway_answers_throughout(
    stage: Stage, kcp: Kcp, run_dir: Path
) -> None:
    async with AsyncExitStack() as exits:
        nats = await exits.enter_async_context(NatsServer(run_dir / "rolling-nats"))
        await nats.declare()
        environment = {**nats.environment, "CODE_ALLOWED_GIT_HOSTS": stage.scenario.url}
        services = {name: Service(name, stage.installation, environment, kcp.session) for name in SERVICES}
        for service in services.values():
            exits.push_async_callback(service.stop)
        async with asyncio.TaskGroup() as group:
            for service in services.values():
                group.create_task(service.roll())
        await stage.scenario.connect(stage.tenant, stage.account, timeout=60)
        await stage.scenario.control.clear_journal()

        made: list[str] = []
        with _asked_all_the_time(services["gateway"]) as answers:
            async with _under_load(stage, made):
                for name in SERVICES:
                    before = len(made)
                    await services[name].roll()
                    async with asyncio.timeout(60):
                        while len(made) < before + AT_ONCE:
                            await asyncio.sleep(0.05)
        assert answers.pop("200") > len(SERVICES)
        assert answers == {}
        await _everything_is_there_once(stage, made)


@contextmanager
def _asked_all_the_time(gateway: Service) -> Iterator[Counter[str]]:
    """Counts what a client sees that asks the ready replica, with a connection for each request."""
    seen: Counter[str] = Counter()

    async def ask() -> None:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        headers = {"Accept": "application/json, text/event-stream", "Connection": "close"}
        while True:
            try:
                async with gateway.session.post(f"{gateway.address}/mcp", json=body, headers=headers) as answer:
                    tools = (await answer.json())["result"]["tools"]
                    seen[str(answer.status) if tools else "no tools"] += 1
            except (aiohttp.ClientError, KeyError) as problem:
                seen[repr(problem)] += 1
            await asyncio.sleep(0.005)

    asking = [asyncio.create_task(ask()) for _ in range(2)]
    try:
        yield seen
    finally:
        for task in asking:
            task.cancel()


async def test_a_restart_of_serve_under_load_loses_nothing_and_does_nothing_twice(stage: Stage, kcp: Kcp) -> None:
    """The upgrade of a single pod (strategy Recreate): the old one ends, and the new one starts on the same volume."""
    serve = stage.installation.command("serve", {"CODE_ALLOWED_GIT_HOSTS": stage.scenario.url})
    async with serve:
        await wait_serving(serve, stage.installation.url, kcp.session)
        await stage.scenario.connect(stage.tenant, stage.account, timeout=60)
        await stage.scenario.control.clear_journal()
        made: list[str] = []
        async with _under_load(stage, made):
            for _ in range(2):
                before = len(made)
                async with asyncio.timeout(60):
                    while len(made) < before + AT_ONCE:
                        await asyncio.sleep(0.05)
                serve.terminate()
                assert await serve.wait(20) == 0, serve.tail()
                with suppress(ProcessLookupError):
                    await serve.stop()
                await serve.start()
        await _everything_is_there_once(stage, made)
