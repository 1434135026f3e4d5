"""What the reconciling services share when they start: it opens the clients and runs the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from codecommon.controller.connections import Connections
from codecommon.controller.engine import Engine
from codecommon.controller.reconciler import Controller
from codecommon.controller.settings import ReconcilerSettings
from codecommon.githost import registry as hosts
from codecommon.githost.http.conditional import MOST_KEPT_BYTES
from codecommon.githost.http.shares import HostShares
from codecommon.kcp.client import ProviderKcp
from codecommon.kcp.identity import ProviderIdentity
from codecommon.messaging.bus import Bus
from codecommon.process.service import Service


@dataclass(frozen=True, slots=True)
class HostClients:
    """What a service needs to reconcile objects against a git host."""

    service: Service[ReconcilerSettings]
    kcp: ProviderKcp
    bus: Bus
    connections: Connections

    async def run(self, *controllers: Controller[Any]) -> None:
        """Reconcile until the service is told to stop."""
        settings = self.service.settings
        engine = Engine(
            self.service.name,
            controllers,
            bus=self.bus,
            kcp=self.kcp,
            max_in_flight=settings.max_in_flight,
            max_per_workspace=settings.max_in_flight_per_workspace,
            resync=settings.resync_interval,
        )
        self.service.ready()
        await engine.run(self.service.stopping)


@asynccontextmanager
async def host_clients(
    service: Service[ReconcilerSettings], *, max_in_flight: int | None = None, kept_bytes: int = MOST_KEPT_BYTES
) -> AsyncIterator[HostClients]:
    """Connect to NATS and kcp and open the git hosts. Waits until NATS and kcp answer.

    ``max_in_flight``: how many objects are worked on at once, if not as many as the setting says. ``kept_bytes``: as of
    ``open_registry``.
    """
    settings = service.settings
    async with (
        ProviderIdentity(settings.kubeconfig) as provider,
        Bus.connect(settings.nats, service.name) as bus,
    ):
        service.ping("nats", bus.ping)
        service.spawn(bus.keep_open(), "nats")
        service.ping("kcp", provider.ping)
        await provider.wait()
        service.readiness.complaint("streams", lambda: bus.complaint)
        await bus.require(service.name)
        kcp = ProviderKcp(provider)
        selectors = kcp.lists.selectors
        service.readiness.complaint("schemas", lambda: selectors.complaint)
        service.spawn(selectors.keep_asking(), "field selectors")
        async with hosts.open_registry(
            settings.allowed_git_hosts,
            bus,
            settings.git_host_limits,
            settings.proxies,
            HostShares(max_in_flight or settings.max_in_flight),
            kept_bytes=kept_bytes,
        ) as registry:
            connections = Connections(
                registry,
                bus=bus,
                credentials_namespace=settings.credentials_namespace,
            )
            yield HostClients(service, kcp, bus, connections)
