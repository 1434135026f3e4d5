"""Composition root of connection-svc: the only place that constructs clients."""

from __future__ import annotations

from codecommon.api.kinds import CONNECTIONS
from codecommon.controller.composition import host_clients
from codecommon.controller.reconciler import Controller
from codecommon.controller.settings import ReconcilerSettings
from codecommon.process.service import Service
from connection_svc.decide import VALIDATED, learn
from connection_svc.reconciler import ConnectionReconciler


async def main(service: Service[ReconcilerSettings]) -> None:
    async with host_clients(service) as clients:
        reconciler = ConnectionReconciler(clients.connections)
        await clients.run(Controller(CONNECTIONS, reconciler, owned=frozenset({VALIDATED}), learn=learn))
