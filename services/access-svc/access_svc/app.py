"""Composition root of access-svc: the only place that constructs clients."""

from __future__ import annotations

from access_svc.collaborator import decide as collaborator
from access_svc.collaborator.reconciler import CollaboratorReconciler
from access_svc.deploykey import decide as deploykey
from access_svc.deploykey.pair import Pairs
from access_svc.deploykey.reconciler import DeployKeyReconciler
from access_svc.deploykey.rotation import step_due
from codecommon.api.kinds import COLLABORATORS, DEPLOY_KEYS
from codecommon.controller.composition import host_clients
from codecommon.controller.reconciler import Controller
from codecommon.controller.settings import ReconcilerSettings
from codecommon.process.service import Service


async def main(service: Service[ReconcilerSettings]) -> None:
    async with host_clients(service) as clients:
        keys = DeployKeyReconciler(clients.connections, Pairs(service.settings.credentials_namespace))
        users = CollaboratorReconciler(clients.connections)
        await clients.run(
            Controller(DEPLOY_KEYS, keys, owned=deploykey.CONDITIONS, is_due=step_due),
            Controller(COLLABORATORS, users, owned=collaborator.CONDITIONS, is_due=collaborator.due),
        )
