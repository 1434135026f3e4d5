"""What an attack does to everybody else: how long another tenant waits, and what the services use."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from devstack.processes import Process
from devstack.provider import metrics_of
from devstack.resources import is_ready
from devstack.scenario import Scenario, repository, unique
from devstack.tenant import Tenant

MIB = 2**20
_LOOK_EVERY_SECONDS = 0.5
_EXPOSED = {
    "memory": "process_resident_memory_bytes",
    "sockets": "process_open_fds",
    "lag": "code_event_loop_lag_seconds",
}


@dataclass
class Figures:
    """``waits``: seconds that the neighbour's Repositories took, one after the other. ``first`` and ``most``: by service,
    bytes of memory, open files and sockets, and seconds of loop lag, before the attack and at their worst.
    """

    waits: list[float] = field(default_factory=list)
    first: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    most: dict[str, dict[str, float]] = field(default_factory=dict)

    def grown(self, what: str) -> Mapping[str, float]:
        """By service: how much more of it there was at most than before."""
        return {service: used[what] - self.first[service][what] for service, used in self.most.items()}

    def shown(self) -> str:
        services = (
            f"{service} +{self.grown('memory')[service] / MIB:.0f} MiB, +{self.grown('sockets')[service]:.0f} files, "
            f"loop {used['lag'] * 1000:.0f} ms late at most"
            for service, used in self.most.items()
            if service.endswith(("-svc", "watcher", "gateway"))
        )
        waits = f"another tenant waited {max(self.waits):.2f} s at most, of {len(self.waits)} times"
        return "\n  ".join([waits, *services])


@dataclass
class Neighbourhood:
    """A tenant who goes on working, and the processes that serve everybody."""

    tenant: Tenant
    services: Process
    session: aiohttp.ClientSession

    @asynccontextmanager
    async def during_attack(self, at_least: int = 3) -> AsyncIterator[Figures]:
        """Work and measure while the block runs, and until the neighbour has made ``at_least`` Repositories in it."""
        figures = Figures(first=await self._used())
        figures.most = {service: dict(used) for service, used in figures.first.items()}
        tasks = [asyncio.create_task(self._work(figures)), asyncio.create_task(self._measure(figures))]
        try:
            yield figures
            async with asyncio.timeout(120):
                while len(figures.waits) < at_least:
                    await asyncio.sleep(0.1)
            await self._look(figures)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for result in ended:
            if isinstance(result, Exception):
                raise result

    async def _work(self, figures: Figures) -> None:
        while True:
            name, started = unique("mine"), time.monotonic()
            await self.tenant.create(repository(name, "acme"))
            await self.tenant.wait_for("repositories", name, is_ready, 120)
            figures.waits.append(time.monotonic() - started)

    async def _measure(self, figures: Figures) -> None:
        while True:
            await self._look(figures)
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _look(self, figures: Figures) -> None:
        for service, used in (await self._used()).items():
            worst = figures.most.setdefault(service, dict(used))
            for what, amount in used.items():
                worst[what] = max(worst[what], amount)

    async def _used(self) -> dict[str, dict[str, float]]:
        exposed = await metrics_of(self.services, self.session)
        return {
            service: {what: _value(text, name) for what, name in _EXPOSED.items()} for service, text in exposed.items()
        }


@asynccontextmanager
async def neighbourhood(
    scenario: Scenario, tenant: Tenant, services: Process, session: aiohttp.ClientSession
) -> AsyncIterator[Neighbourhood]:
    await scenario.connect(tenant, await scenario.account("neighbour"))
    yield Neighbourhood(tenant, services, session)


async def all_at_once(do: Callable[[int], Awaitable[object]], count: int, at_once: int = 16) -> None:
    """``do(0)`` to ``do(count - 1)``, a few at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with gate:
            await do(number)

    await asyncio.gather(*map(one, range(count)))


def _value(exposed: str, name: str) -> float:
    found = re.search(rf"^{name}(?:\{{.*?\}})? (\S+)$", exposed, re.MULTILINE)
    return float(found[1]) if found else 0.0
