"""Composition root of connection-svc: the only place that constructs clients."""

from __future__ import annotations

from codecommon import controllers
from codecommon.api.connection import Connection
from codecommon.api.kinds import CONNECTIONS
from codecommon.controller import Controller
from codecommon.service import Service
from codecommon.settings import ServiceSettings
from connection_svc.decide import VALIDATED
from connection_svc.reconciler import ConnectionReconciler


async def main(service: Service[ServiceSettings]) -> None:
    async with controllers.host_clients(service) as clients:
        reconciler = ConnectionReconciler(clients.sessions)
        await clients.run(Controller(CONNECTIONS, Connection, reconciler, owned=frozenset({VALIDATED})))
