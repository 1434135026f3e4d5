"""Starts the whole development stack in the order of its dependencies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from devstack import connect_with_github
from devstack.devhub import DevHub
from devstack.graphql import GraphqlGateway
from devstack.kcp import Kcp
from devstack.nats import NatsServer
from devstack.ports import require_free
from devstack.processes import Process
from devstack.provider import EXPORT, ProviderInstallation, install_provider, run_init, wait_serving
from devstack.settings import Settings
from devstack.simulator import SimulatorProcess

Say = Callable[[str], None]
"""Tells the person in front of the screen one line."""

T = TypeVar("T")


@dataclass(frozen=True)
class Stack:
    """All parts, running. `simulator` is None when the services work on a real git host.

    `oauth` has the variables of Connect with GitHub; it is empty when that is off.
    """

    folder: Path
    kcp: Kcp
    nats: NatsServer
    simulator: SimulatorProcess | None
    hub: DevHub
    provider: ProviderInstallation
    services: Process
    oauth: Mapping[str, str] = field(repr=False)


@asynccontextmanager
async def running_stack(
    folder: Path,
    settings: Settings,
    say: Say,
    *,
    simulated: bool = True,
    graphql: bool = False,
    services_environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Stack]:
    """Starts all parts, yields once the provider serves and is in the hub's catalogue, and stops all parts.

    With `graphql` the hub answers at ``/graphql/<cluster ID>``, too. That starts while the services start.

    Raises `StackError`, whose text says what to do, if a part does not start. It stops the parts that run by then.
    """
    async with AsyncExitStack() as exits:
        kcp, nats = Kcp(folder / "kcp", kubeconfig=settings.kubeconfig), NatsServer(folder / "nats")
        simulator = SimulatorProcess(folder / "githubsim") if simulated else None
        port = connect_with_github.hub_port(settings.oauth)
        if port is not None:
            require_free(port, "the development hub, which GITHUB_OAUTH_REDIRECT_URL names,")
        control_plane = f"kcp of {settings.kubeconfig}" if settings.kubeconfig else "kcp (takes about 25 s)"
        say(f"starting {control_plane}, nats-server" + (", the GitHub simulator" if simulator else ""))
        await timed(say, "they serve", enter_together(exits, *filter(None, (kcp, nats, simulator))))
        hub = await exits.enter_async_context(DevHub(kcp, folder / "devhub", port=port))
        say(f"the development hub serves at {hub.url}; it makes the provider's workspace and kubeconfig")
        provisioned = await timed(say, "provisioned root:kedge:providers:code", hub.provision_provider("code"))
        provider = install_provider(provisioned, folder / "provider", hub.url, settings.environment)
        await timed(say, "code-provider init has put its API there", run_init(provider, nats))
        await hub.wait_for_catalogue(provisioned)
        oauth = await connect_with_github.environment(settings.oauth, hub.url, simulator)
        environment = {**nats.environment, **oauth, **(services_environment or {})}
        hosts = [*([simulator.url] if simulator else []), *connect_with_github.git_hosts(settings.oauth)]
        if hosts:
            environment["CODE_ALLOWED_GIT_HOSTS"] = ",".join(hosts)
        services = await exits.enter_async_context(provider.command("serve", environment))
        serving = timed(
            say, "code-provider serve runs the six services", wait_serving(services, provider.url, kcp.session)
        )
        if graphql:
            gateway = GraphqlGateway(kcp, folder / "graphql", workspace=provisioned.cluster, export=EXPORT)
            await all_of(serving, timed(say, "the GraphQL gateway serves", exits.enter_async_context(gateway)))
            hub.graphql_url = gateway.url
        else:
            await serving
        yield Stack(folder, kcp, nats, simulator, hub, provider, services, oauth)
        say("stopping everything")


async def enter_together(exits: AsyncExitStack, *managers: AbstractAsyncContextManager[object]) -> None:
    """Enters all managers at the same time. If one fails, this exits the others and raises its error."""
    await all_of(*(exits.enter_async_context(manager) for manager in managers))


async def all_of(*work: Coroutine[Any, Any, object]) -> None:
    """Runs all coroutines at the same time. The first error cancels the others; it is raised as itself, not as a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as problems:
        raise first_of(problems) from None


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def timed(say: Say, what: str, work: Awaitable[T]) -> T:
    """Awaits `work`, then says `what` and how many seconds it took."""
    started = time.monotonic()
    result = await work
    say(f"{what} ({time.monotonic() - started:.1f} s)")
    return result
