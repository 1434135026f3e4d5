"""A workspace with a validated Connection and a Repository that is on the host, and the two reconcilers over them."""

from __future__ import annotations

import pytest

from access_svc.collaborator import decide as collaborator
from access_svc.collaborator.reconciler import CollaboratorReconciler
from access_svc.deploykey import decide as deploykey
from access_svc.deploykey.pair import Pairs
from access_svc.deploykey.reconciler import DeployKeyReconciler
from access_svc.deploykey.rotation import step_due
from codecommon.api.access import Collaborator, DeployKey
from codecommon.api.kinds import COLLABORATORS, DEPLOY_KEYS
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostRepository
from codecommon.testing.builders import api_binding, made_repository, secret_object, validated_connection
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import NAMESPACE, World


@pytest.fixture
def host() -> StubBackend:
    return StubBackend("octocat", organizations=["acme"], users=["alice"])


@pytest.fixture
def site(host: StubBackend) -> HostRepository:
    """The repository on the host."""
    return host.add_repository("octocat", "site")


@pytest.fixture
def world(host: StubBackend, site: HostRepository) -> World:
    made = World(host)
    made.add(api_binding(), secret_object(), validated_connection(), made_repository(repo_id=site.id))
    return made


@pytest.fixture
def keys(world: World) -> Controller[DeployKey]:
    return Controller(
        DEPLOY_KEYS, DeployKeyReconciler(world.connections, Pairs(NAMESPACE)), deploykey.CONDITIONS, step_due
    )


@pytest.fixture
def users(world: World) -> Controller[Collaborator]:
    return Controller(
        COLLABORATORS,
        CollaboratorReconciler(world.connections),
        collaborator.CONDITIONS,
        collaborator.due,
    )
