"""Composition root of repository-svc: the only place that constructs clients."""

from __future__ import annotations

from codecommon import controllers
from codecommon.api.kinds import REPOSITORIES
from codecommon.api.repository import Repository
from codecommon.controller import Controller
from codecommon.service import Service
from codecommon.settings import ServiceSettings
from repository_svc.decide import CONDITIONS
from repository_svc.reconciler import RepositoryReconciler


async def main(service: Service[ServiceSettings]) -> None:
    async with controllers.host_clients(service) as clients:
        reconciler = RepositoryReconciler(clients.sessions)
        await clients.run(Controller(REPOSITORIES, Repository, reconciler, owned=CONDITIONS))
