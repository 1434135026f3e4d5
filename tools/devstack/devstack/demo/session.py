"""What demo and up share: a folder of their own, a stack in it, teams with the provider enabled."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.demo.screen import Screen
from devstack.demo.workload import Team, github_team, simulated_teams
from devstack.devhub import DevHub
from devstack.errors import StackError
from devstack.paths import RUNS
from devstack.settings import Settings
from devstack.stack import Stack, running_stack
from devstack.tenant import Tenant

RESYNC_INTERVAL = "10s"


@dataclass(frozen=True)
class Session:
    stack: Stack
    teams: dict[Team, Tenant]


@contextmanager
def own_folder(name: str) -> Iterator[Path]:
    """An empty folder ``.dev/<name>`` that no other run uses; the lock file beside it names the holder's process."""
    RUNS.mkdir(exist_ok=True)
    with lock_file(name).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"`make {name}` is already running; stop it with Ctrl-C or `make down`") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        folder = RUNS / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder


def lock_file(name: str) -> Path:
    return RUNS / f"{name}.lock"


@asynccontextmanager
async def open_session(
    folder: Path, settings: Settings, screen: Screen, *, graphql: bool = False
) -> AsyncIterator[Session]:
    """The stack, running, with one workspace per team in which the provider is enabled."""
    real = settings.github_token is not None and settings.github_owner is not None
    environment = {"CODE_RESYNC_INTERVAL": RESYNC_INTERVAL}
    async with running_stack(
        folder, settings, screen.say, simulated=not real, graphql=graphql, services_environment=environment
    ) as stack:
        if settings.github_token and settings.github_owner:
            teams = [github_team(settings.github_token, settings.github_owner)]
        else:
            assert stack.simulator is not None
            teams = await simulated_teams(stack.simulator.control, stack.simulator.url)
        yield Session(stack, await enabled_tenants(stack.hub, teams, screen))


async def enabled_tenants(hub: DevHub, teams: list[Team], screen: Screen) -> dict[Team, Tenant]:
    """A workspace for each team, with the provider enabled."""
    tenants = await asyncio.gather(*(_enabled_tenant(hub, team) for team in teams))
    for team, tenant in zip(teams, tenants, strict=True):
        screen.say(f"workspace {team.workspace} ({tenant.cluster}) has the provider enabled")
    return dict(zip(teams, tenants, strict=True))


async def _enabled_tenant(hub: DevHub, team: Team) -> Tenant:
    tenant = await hub.create_tenant(organization="demo", workspace=team.workspace)
    await hub.enable(tenant)
    return tenant


def run(work: Coroutine[Any, Any, None], screen: Screen, *, when_stopped: int = 130) -> int:
    """Runs `work` so that Ctrl-C and SIGTERM stop everything in order.

    Returns the exit code: 0, 1 after a `StackError`, which is told in words, or `when_stopped`.
    """

    async def stoppable() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await work

    try:
        asyncio.run(stoppable())
    except StackError as problem:
        screen.say(f"failed: {problem}")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        screen.say("stopped, and everything that was started")
        return when_stopped
    return 0
