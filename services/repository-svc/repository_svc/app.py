"""Composition root of repository-svc: the only place that constructs clients."""

from __future__ import annotations

from codecommon.api.kinds import REPOSITORIES
from codecommon.controller.composition import host_clients
from codecommon.controller.reconciler import Controller
from codecommon.controller.settings import ReconcilerSettings
from codecommon.process.service import Service
from repository_svc.decide import CONDITIONS, look_due
from repository_svc.reconciler import RepositoryReconciler


async def main(service: Service[ReconcilerSettings]) -> None:
    async with host_clients(service) as clients:
        reconciler = RepositoryReconciler(clients.connections)
        await clients.run(Controller(REPOSITORIES, reconciler, owned=CONDITIONS, is_due=look_due))
