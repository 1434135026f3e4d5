"""Composition root of access-svc: the only place that constructs clients."""

from __future__ import annotations

from access_svc.collaborator import decide as collaborator
from access_svc.collaborator.reconciler import CollaboratorReconciler
from access_svc.deploykey import decide as deploykey
from access_svc.deploykey.pair import Pairs
from access_svc.deploykey.reconciler import DeployKeyReconciler
from access_svc.deploykey.rotation import step_due
from codecommon import controllers
from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.kinds import COLLABORATORS, DEPLOY_KEYS
from codecommon.controller import Controller
from codecommon.service import Service
from codecommon.settings import ServiceSettings


async def main(service: Service[ServiceSettings]) -> None:
    async with controllers.host_clients(service) as clients:
        keys = DeployKeyReconciler(clients.sessions, Pairs(service.settings.credentials_namespace))
        users = CollaboratorReconciler(clients.sessions)
        await clients.run(
            Controller(DEPLOY_KEYS, DeployKey, keys, owned=deploykey.CONDITIONS, due=step_due),
            Controller(COLLABORATORS, Collaborator, users, owned=collaborator.CONDITIONS, due=collaborator.due),
        )
