"""What the containers of ``docker-compose.yaml`` run besides the provider and its control plane.

``python -m devstack.compose prepare`` writes, before anything starts, what kcp and the simulator read at their start.
``python -m devstack.compose hub`` is the development hub: it makes the provider's workspace and kubeconfig, waits until the
provider serves, enables it in the workspaces of two teams, prints how to open the portal, and goes on serving.
``python -m devstack.compose demo`` shows after that what ``make demo`` shows, and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from devstack.demo.screen import Screen
from devstack.demo.session import Session, enabled_tenants, run
from devstack.demo.show import steps
from devstack.demo.workload import simulated_teams
from devstack.devhub import DevHub
from devstack.devhub.certificate import key_and_certificate
from devstack.devhub.provisioning import ProvisionedProvider
from devstack.errors import NotReady, StackError
from devstack.githubsim import SimControl, state_file
from devstack.githubsim.records import OAuthApp
from devstack.githubsim.world import World
from devstack.kcp import Kcp
from devstack.kubeconfig import write_private
from devstack.paths import REPOSITORY
from devstack.static_users import write_token_file

START_TIMEOUT = 600.0
"""Seconds until kcp, the provider and the simulator serve. A first start has all containers compete for the processors."""

LOOK_INTERVAL = 0.5
ANY_ADDRESS = "0.0.0.0"
"""Inside a container. The host publishes the ports on loopback alone."""

READY_FILE = Path("/tmp/ready")
"""Once it is there, the provider's files are complete. It goes with the container."""


@dataclass(frozen=True)
class Simulator:
    """The simulator in its own container: what `devstack.simulator.SimulatorProcess` is elsewhere."""

    url: str
    control: SimControl


@dataclass(frozen=True)
class Containers:
    """The parts that the demonstration's steps deal with, as in `devstack.stack.Stack`."""

    kcp: Kcp
    hub: DevHub
    simulator: Simulator


def prepare(arguments: argparse.Namespace) -> int:
    """Writes kcp's static users and certificate, and the simulator's state unless it has one of an earlier start."""
    write_token_file(arguments.control_plane)
    # kcp's own certificate names the address that its container has now.
    key, certificate = key_and_certificate("kcp")
    write_private(arguments.control_plane / "tls.key", key)
    (arguments.control_plane / "tls.crt").write_text(certificate)
    if not arguments.github_state.exists():
        world = World(time.time)
        app = OAuthApp(
            client_id=os.environ["GITHUB_OAUTH_CLIENT_ID"],
            client_secret=os.environ["GITHUB_OAUTH_CLIENT_SECRET"],
            callback_url=os.environ["GITHUB_OAUTH_REDIRECT_URL"],
            asks=True,
        )
        world.oauth_apps[app.client_id] = app
        state_file.save(arguments.github_state, world)
    return 0


async def hub(arguments: argparse.Namespace, screen: Screen) -> None:
    async with serving(arguments, screen) as session:
        screen.plain(_instructions(session))
        if arguments.command == "demo":
            await steps(session, screen)
        else:
            await asyncio.Event().wait()


@asynccontextmanager
async def serving(arguments: argparse.Namespace, screen: Screen) -> AsyncIterator[Session]:
    """The hub, beside a provider that serves, with one workspace per team in which it is enabled."""
    async with AsyncExitStack() as exits:
        screen.say("waiting for kcp")
        kcp = await _kcp(exits, arguments.control_plane / "admin.kubeconfig")
        control = await exits.enter_async_context(SimControl(arguments.github))
        devhub = DevHub(
            kcp,
            arguments.folder,
            port=arguments.port,
            plain_port=arguments.plain_port,
            listen=ANY_ADDRESS,
            # What the other containers call it.
            internal_url=f"https://{arguments.name}:{arguments.port}",
        )
        await exits.enter_async_context(devhub)
        devhub.graphql_url = arguments.graphql
        screen.say("the development hub serves; it makes the provider's workspace and kubeconfig")
        provisioned = await devhub.provision_provider("code")
        _write_provider_files(provisioned, arguments.provider, arguments.gateway)
        READY_FILE.touch()
        screen.say("waiting for the init job and the services")
        await devhub.wait_for_catalogue(provisioned, START_TIMEOUT)
        await _wait_for(kcp.session, f"{arguments.gateway}/healthz")
        await _wait_for(kcp.session, f"{arguments.github}/_sim/journal")
        containers = Containers(kcp, devhub, Simulator(arguments.github, control))
        teams = await simulated_teams(control, arguments.github)
        yield Session(containers, await enabled_tenants(devhub, teams, screen))


async def _kcp(exits: AsyncExitStack, kubeconfig: Path) -> Kcp:
    """kcp, once it serves. It writes its kubeconfig last."""
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while True:
                try:
                    async with Kcp(kubeconfig.parent, kubeconfig=kubeconfig) as kcp:
                        # It answers before its roles are there.
                        await kcp.request("GET", "/readyz")
                    return await exits.enter_async_context(Kcp(kubeconfig.parent, kubeconfig=kubeconfig))
                except (StackError, aiohttp.ClientError):
                    await asyncio.sleep(LOOK_INTERVAL)
    except TimeoutError:
        raise NotReady(f"kcp of {kubeconfig} did not serve within {START_TIMEOUT:g} s") from None


async def _wait_for(session: aiohttp.ClientSession, url: str) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while not await _answers(session, url):
                await asyncio.sleep(LOOK_INTERVAL)
    except TimeoutError:
        raise NotReady(f"{url} did not answer within {START_TIMEOUT:g} s") from None


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=5)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _write_provider_files(provisioned: ProvisionedProvider, folder: Path, gateway: str) -> None:
    """What an operator mounts into the provider's containers."""
    write_private(folder / "kubeconfig", provisioned.kubeconfig)
    entry = yaml.safe_load((REPOSITORY / "manifest.yaml").read_text())
    entry["spec"]["ui"]["url"] = entry["spec"]["backend"]["url"] = gateway
    (folder / "catalogentry.yaml").write_text(yaml.safe_dump(entry, sort_keys=False))


def _instructions(session: Session) -> str:
    stack = session.stack
    return "\n".join(
        [
            "",
            "The stack is up. Stop it with Ctrl-C; `docker compose down --volumes` removes its data, too.",
            "",
            f"  GitHub simulator   {stack.simulator.url}",
            *(
                f"  MCP of {team.workspace}      {stack.hub.mcp_url(tenant.cluster, plain=True)}"
                for team, tenant in session.teams.items()
            ),
            "",
            "Open the portal in a browser, accept its certificate, and log in with the token of a user:",
            "",
            *(f"  {team.workspace}   {tenant.token}" for team, tenant in session.teams.items()),
            "",
            f"  {stack.hub.url}/ui/",
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m devstack.compose", description=__doc__)
    parser.add_argument("command", choices=("prepare", "hub", "demo"))
    parser.add_argument("--control-plane", type=Path, default=Path("/var/lib/kcp"), help="kcp's root folder")
    parser.add_argument("--github-state", type=Path, default=Path("/var/lib/githubsim/state.json"))
    parser.add_argument(
        "--provider", type=Path, default=Path("/var/lib/provider"), help="where the provider's files go"
    )
    parser.add_argument("--folder", type=Path, default=Path("/tmp/devhub"), help="for the hub's own files")
    parser.add_argument("--name", default="hub", help="what other containers call the hub")
    parser.add_argument("--port", type=int, default=8443, help="where the hub serves with TLS, here and on the host")
    parser.add_argument("--plain-port", type=int, default=8444, help="the same without TLS")
    parser.add_argument("--gateway", default="http://gateway:8083", help="the provider's gateway")
    parser.add_argument("--graphql", default="http://graphql:8085", help="the GraphQL gateway")
    parser.add_argument("--github", default="http://github.localhost:8080", help="the simulator, for all and browsers")
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        return prepare(arguments)
    screen = Screen()
    return run(hub(arguments, screen), screen, when_stopped=0)


if __name__ == "__main__":
    sys.exit(main())
