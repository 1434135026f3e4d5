"""What the composition roots of the reconciling services have in common: clients in, a running runtime out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from codecommon.bus import Bus
from codecommon.controller import Controller
from codecommon.githost import hosts
from codecommon.githost.allow import AllowedHosts
from codecommon.kcp import Kcp
from codecommon.kubeconfig import KubeAccess
from codecommon.runtime import Runtime
from codecommon.service import Service
from codecommon.sessions import Sessions
from codecommon.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class HostClients:
    """What a service needs to reconcile objects against a git host."""

    service: Service[ServiceSettings]
    kcp: Kcp
    bus: Bus
    sessions: Sessions

    async def run(self, *controllers: Controller[Any]) -> None:
        """Reconcile until the service is told to stop."""
        settings = self.service.settings
        runtime = Runtime(
            self.service.name,
            controllers,
            bus=self.bus,
            kcp=self.kcp,
            max_in_flight=settings.max_in_flight,
            max_per_workspace=settings.max_in_flight_per_workspace,
            resync=settings.resync_interval,
        )
        self.service.ready()
        await runtime.run(self.service.stopping)


@asynccontextmanager
async def host_clients(service: Service[ServiceSettings]) -> AsyncIterator[HostClients]:
    """Connect to NATS and kcp and open the git hosts; waits for what is not there yet."""
    settings = service.settings
    async with (
        KubeAccess(settings.kubeconfig) as access,
        Bus.connect(settings.nats, service.name) as bus,
    ):
        service.ping("nats", bus.ping)
        service.spawn(bus.keep_open(), "nats")
        service.ping("kcp", access.ping)
        await access.wait()
        await bus.declare()
        kcp = Kcp(access)
        allowed = AllowedHosts(settings.allowed_git_hosts)
        async with hosts.open_registry(allowed, bus, settings.git_host_limits, settings.proxies) as registry:
            sessions = Sessions(
                registry,
                kcp=kcp,
                bus=bus,
                credentials_namespace=settings.credentials_namespace,
            )
            yield HostClients(service, kcp, bus, sessions)
