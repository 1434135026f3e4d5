"""A workspace with a validated Connection, its git host, and the reconciler over them."""

from __future__ import annotations

import pytest

from codecommon.api.kinds import REPOSITORIES
from codecommon.api.repository import Repository
from codecommon.controller.reconciler import Controller
from codecommon.testing.builders import secret_object, validated_connection
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import World
from repository_svc.decide import CONDITIONS, look_due
from repository_svc.reconciler import RepositoryReconciler


@pytest.fixture
def world() -> World:
    made = World(StubBackend("octocat", organizations=["acme"]))
    made.add(secret_object(), validated_connection())
    return made


@pytest.fixture
def controller(world: World) -> Controller[Repository]:
    return Controller(REPOSITORIES, RepositoryReconciler(world.connections), CONDITIONS, look_due)
