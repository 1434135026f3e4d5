"""pytest fixtures around real processes, shared by all tests of one run.

Each conftest that needs them registers this module as a plugin (see ``tests/conftest.py``), so that there is one set of
session fixtures whichever folders are tested. All workers share one kcp. Each worker has its own of everything else.
All servers listen on the loopback interface and end with the run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from devstack import connect_with_github
from devstack.devhub import DevHub
from devstack.devhub.certificate import trusting_context
from devstack.enterprise import EnterpriseSim, enterprise_sim
from devstack.githubsim.control_answers import IssuedOAuthApp
from devstack.graphql import GraphqlGateway
from devstack.kcp import Kcp
from devstack.nats import NatsServer
from devstack.paths import RUNS
from devstack.processes import Process
from devstack.provider import EXPORT, ProviderInstallation, install_provider, run_init, wait_serving
from devstack.settings import Settings
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant
from devstack.tenants import TenantPool
from devstack.workers import PREFIX, hub_path, share_kcp_among_workers, shared_kcp

OAUTH_CALLBACK = f"{connect_with_github.PATH}/callback"


def pytest_configure(config: pytest.Config) -> None:
    share_kcp_among_workers(config)


@pytest.fixture(scope="session")
def run_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The folder with this worker's data and logs. If a test failed, it stays until the next run."""
    for old in RUNS.glob(f"{PREFIX}*"):
        if not _alive(int(old.name.removeprefix(PREFIX))):
            # Another worker may be removing it at the same time.
            shutil.rmtree(old, ignore_errors=True)
    folder = RUNS / f"{PREFIX}{os.getpid()}"
    folder.mkdir(parents=True)
    yield folder
    if not request.session.testsfailed:
        shutil.rmtree(folder)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@pytest.fixture(scope="session")
def dev_settings() -> Settings:
    return Settings.from_environ(os.environ)


@pytest_asyncio.fixture(scope="session")
async def kcp(run_dir: Path, dev_settings: Settings, pytestconfig: pytest.Config) -> AsyncIterator[Kcp]:
    """A real kcp: the one of ``CODE_DEV_KUBECONFIG``, the one that the workers share, or one started here (about 25 s)."""
    kubeconfig = dev_settings.kubeconfig or await shared_kcp(pytestconfig)
    async with Kcp(run_dir / "kcp", kubeconfig=kubeconfig) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def nats_server(run_dir: Path) -> AsyncIterator[NatsServer]:
    """A real nats-server with JetStream. A test that stops it must start it again."""
    async with NatsServer(run_dir / "nats") as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def github_sim(run_dir: Path) -> AsyncIterator[SimulatorProcess]:
    """The GitHub simulator in its own process. ``.url`` is for Connections, ``.control`` looks inside."""
    async with SimulatorProcess(run_dir / "githubsim") as running:
        yield running


@pytest_asyncio.fixture(name="enterprise_sim", scope="session")
async def _enterprise_sim(run_dir: Path) -> AsyncIterator[EnterpriseSim]:
    """The simulator behind TLS with a certificate that no public authority has signed."""
    async with enterprise_sim(run_dir / "enterprise") as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def devhub(kcp: Kcp, run_dir: Path, pytestconfig: pytest.Config) -> AsyncIterator[DevHub]:
    async with DevHub(kcp, run_dir / "devhub", path=hub_path(pytestconfig)) as running:
        yield running


@pytest_asyncio.fixture
async def hub_client(devhub: DevHub) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client of the hub, without identity. `Tenant.headers` has one; a path alone is enough as the URL."""
    async with aiohttp.ClientSession(devhub.url, connector=aiohttp.TCPConnector(ssl=trusting_context())) as session:
        yield session


@pytest_asyncio.fixture(scope="session")
async def provider(devhub: DevHub, run_dir: Path, dev_settings: Settings) -> ProviderInstallation:
    """The provider's workspace with its API: the hub provisions it, ``code-provider init`` fills it."""
    provisioned = await devhub.provision_provider("code")
    installation = install_provider(provisioned, run_dir / "provider", devhub.url, dev_settings.environment)
    await run_init(installation)
    await devhub.wait_for_catalogue(provisioned)
    return installation


@pytest_asyncio.fixture(scope="session")
async def graphql(devhub: DevHub, provider: ProviderInstallation, kcp: Kcp, run_dir: Path) -> AsyncIterator[str]:
    """The hub's GraphQL endpoint works while a test has this. The value is its URL up to the cluster ID."""
    made = provider.provisioned
    async with GraphqlGateway(kcp, run_dir / "graphql", workspace=made.cluster, export=EXPORT) as gateway:
        devhub.graphql_url = gateway.url
        yield f"{devhub.url}/graphql/"
        devhub.graphql_url = None


@pytest.fixture(scope="session")
def services_environment() -> Mapping[str, str]:
    """Settings of ``code-provider serve`` besides its addresses. A conftest may override them.

    The resync interval is longer than the five seconds in which some tests expect an event to have its effect.
    """
    return {"CODE_RESYNC_INTERVAL": "10s"}


@pytest_asyncio.fixture(scope="session")
async def services_nats(run_dir: Path) -> AsyncIterator[NatsServer]:
    """The nats-server of the services. On `nats_server`, tests act as services of the same names."""
    async with NatsServer(run_dir / "services-nats") as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def oauth_app(devhub: DevHub, github_sim: SimulatorProcess) -> IssuedOAuthApp:
    """The simulator's OAuth app for Connect with GitHub, which the services use. Nobody agrees until a test says who does."""
    return await github_sim.control.create_oauth_app(f"{devhub.url}{OAUTH_CALLBACK}")


@pytest_asyncio.fixture(scope="session")
async def services(
    devhub: DevHub,
    provider: ProviderInstallation,
    oauth_app: IssuedOAuthApp,
    services_nats: NatsServer,
    github_sim: SimulatorProcess,
    enterprise_sim: EnterpriseSim,
    kcp: Kcp,
    services_environment: Mapping[str, str],
) -> AsyncIterator[Process]:
    """``code-provider serve`` with all six services, until the end of the run."""
    allowed = f"{github_sim.url},{enterprise_sim.host}"
    environment = {
        **services_nats.environment,
        "CODE_ALLOWED_GIT_HOSTS": allowed,
        "GITHUB_OAUTH_BASE_URL": github_sim.url,
        "GITHUB_OAUTH_REDIRECT_URL": f"{devhub.url}{OAUTH_CALLBACK}",
        "GITHUB_OAUTH_CLIENT_ID": oauth_app.client_id,
        "GITHUB_OAUTH_CLIENT_SECRET": oauth_app.client_secret,
        **services_environment,
    }
    await run_init(provider, services_nats)
    async with provider.command("serve", environment) as process:
        await wait_serving(process, provider.url, kcp.session)
        yield process


@pytest_asyncio.fixture(scope="session")
async def tenants(devhub: DevHub, provider: ProviderInstallation) -> AsyncIterator[TenantPool]:
    pool = TenantPool(devhub)
    yield pool
    await pool.aclose()


@pytest_asyncio.fixture
async def tenant(tenants: TenantPool) -> AsyncIterator[Tenant]:
    """An empty workspace with the provider enabled. For a new one, use ``devhub.create_tenant()`` and ``enable``."""
    taken = await tenants.take()
    yield taken
    await tenants.give_back(taken)
