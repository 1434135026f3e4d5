"""The code provider as its operators run it: the ``code-provider`` command and its environment."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml

from devstack.devhub.provisioning import ProvisionedProvider, provision_provider
from devstack.errors import NotReady, ProcessDied
from devstack.kcp import Kcp
from devstack.kubeconfig import write_private
from devstack.nats import NatsServer
from devstack.paths import REPOSITORY, VENV_BIN
from devstack.ports import LOOPBACK, free_ports
from devstack.processes import Process
from devstack.scenario import unique

EXPORT = "code.providers.kedge.faros.sh"
"""The APIExport that ``init`` makes, and the APIExportEndpointSlice of it."""

INIT_TIMEOUT = 60.0
START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0


@dataclass(frozen=True)
class ProviderInstallation:
    """A provisioned provider on this machine. `folder` has its files, `url` is the gateway's address.

    `environment` is complete for ``init``. For ``serve`` only what is about NATS and the git hosts may be missing.
    """

    provisioned: ProvisionedProvider
    folder: Path
    url: str
    environment: Mapping[str, str] = field(repr=False)

    def command(
        self, subcommand: str, extra: Mapping[str, str] | None = None, *, program: Sequence[str | Path] = ()
    ) -> Process:
        """``code-provider <subcommand>``, not started yet. Its log is ``<folder>/code-provider-<subcommand>.log``.

        `program` replaces the command, for a test that needs another one.
        """
        return Process(
            f"code-provider {subcommand}",
            program or [VENV_BIN / "code-provider", subcommand],
            log_file=self.folder / f"code-provider-{subcommand}.log",
            env={**self.environment, **(extra or {})},
            cwd=self.folder,
            stop_timeout=STOP_TIMEOUT,
            # On SIGTERM it stops its children, the services. A SIGKILL could leave them behind.
            death_signal=signal.SIGTERM,
        )


def install_provider(
    provisioned: ProvisionedProvider, folder: Path, hub_url: str, inherited: Mapping[str, str]
) -> ProviderInstallation:
    """Writes the files that an operator writes. Starts nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_ports(1)[0]
    url = f"http://{LOOPBACK}:{port}"
    entry = yaml.safe_load((REPOSITORY / "manifest.yaml").read_text())
    entry["spec"]["ui"]["url"] = entry["spec"]["backend"]["url"] = url
    catalog_entry = folder / "catalogentry.yaml"
    catalog_entry.write_text(yaml.safe_dump(entry, sort_keys=False))
    environment = {
        **inherited,
        "KEDGE_PROVIDER_KUBECONFIG": str(write_private(folder / "provider.kubeconfig", provisioned.kubeconfig)),
        "CODE_WORKSPACE_PATH": provisioned.workspace_path,
        "KEDGE_SCHEMAS_DIR": str(REPOSITORY / "crds" / "kcp"),
        "KEDGE_CATALOGENTRY_FILE": str(catalog_entry),
        "KEDGE_PROVIDER_NAME": provisioned.name,
        "KEDGE_HUB_URL": hub_url,
        "KEDGE_HUB_INSECURE": "true",
        "PORT": str(port),
        "CODE_GATEWAY_HOST": LOOPBACK,
        "CODE_DATA_DIR": str(folder / "data"),
        "CODE_COMMIT_BUNDLE_DIR": str(folder / "bundles"),
        "CODE_LOG_FORMAT": "text",
    }
    return ProviderInstallation(provisioned, folder, url, environment)


async def provision_own(kcp: Kcp, folder: Path, inherited: Mapping[str, str]) -> ProviderInstallation:
    """A provider workspace with the API, without a hub. No other instance works on its tenants."""
    provisioned = await provision_provider(kcp, unique(folder.name), kcp.url)
    installation = install_provider(provisioned, folder, hub_url="", inherited=inherited)
    await run_init(installation)
    return installation


async def run_init(installation: ProviderInstallation, nats: NatsServer | None = None) -> None:
    """Runs ``code-provider init`` to its end, which declares what the services keep in ``nats``.

    Raises `ProcessDied` with its last lines if it fails.
    """
    async with installation.command("init", nats and nats.environment) as process:
        try:
            code = await process.wait(INIT_TIMEOUT)
        except TimeoutError:
            raise NotReady(f"code-provider init took longer than {INIT_TIMEOUT:g} s:\n{process.tail()}") from None
        if code != 0:
            raise ProcessDied(f"code-provider init failed with exit code {code}:\n{process.tail()}")


async def wait_serving(process: Process, url: str, session: aiohttp.ClientSession) -> None:
    """Returns once the gateway of ``code-provider serve`` answers its health check at `url`."""

    async def healthy() -> bool:
        try:
            async with session.get(f"{url}/healthz", timeout=aiohttp.ClientTimeout(total=2)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    await process.wait_ready(healthy, timeout=START_TIMEOUT)


async def metrics_of(process: Process, session: aiohttp.ClientSession) -> dict[str, str]:
    """The metrics of each service of ``code-provider serve``, by name, from the address that its newest process has logged."""
    addresses = dict(re.findall(r" (\S+) \S+ health endpoints on (\S+)", process.log_file.read_text()))
    exposed: dict[str, str] = {}
    for service, address in addresses.items():
        timeout = aiohttp.ClientTimeout(total=5)
        async with session.get(f"{address}/metrics", timeout=timeout, raise_for_status=True) as answer:
            exposed[service] = await answer.text()
    return exposed
