"""A workspace with a validated Connection, its git host, and the reconcilers over them."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from codecommon.api.kinds import (
    REPOSITORIES,
    REPOSITORY_BUILD_STATUSES,
    REPOSITORY_CHECKOUTS,
    REPOSITORY_COMMITS,
)
from codecommon.api.repository import Repository
from codecommon.api.repository_build_status import RepositoryBuildStatus
from codecommon.api.repository_checkout import RepositoryCheckout
from codecommon.api.repository_commit import RepositoryCommit
from codecommon.controller.reconciler import Controller
from codecommon.githost.protocol import HostRepository
from codecommon.messaging.bundles import DirectoryBundles
from codecommon.messaging.bus import Bus
from codecommon.testing.builders import api_binding, made_repository, secret_object, validated_connection
from codecommon.testing.git_host import StubBackend
from codecommon.testing.harness import World
from repository_svc.build.reconciler import BuildReconciler
from repository_svc.bundle_memory import BundleMemory
from repository_svc.checkout.reconciler import CheckoutReconciler
from repository_svc.commit.reconciler import CommitReconciler
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


@pytest.fixture
def site(world: World) -> HostRepository:
    """The repository of the Repository ``site``, which is on the host and empty."""
    seen = world.host.add_repository("octocat", "site")
    world.add(api_binding(), made_repository(repo_id=seen.id))
    return seen


@pytest.fixture
def bundles(tmp_path: Path) -> DirectoryBundles:
    return DirectoryBundles(tmp_path)


@pytest.fixture
def memory() -> BundleMemory:
    return BundleMemory()


@pytest.fixture
def commits(world: World, bundles: DirectoryBundles, memory: BundleMemory) -> Controller[RepositoryCommit]:
    reconciler = CommitReconciler(world.connections, bundles, memory, cast(Bus, world.bus))
    return Controller(REPOSITORY_COMMITS, reconciler)


@pytest.fixture
def checkouts(world: World, bundles: DirectoryBundles, memory: BundleMemory) -> Controller[RepositoryCheckout]:
    return Controller(REPOSITORY_CHECKOUTS, CheckoutReconciler(world.connections, bundles, memory))


@pytest.fixture
def builds(world: World) -> Controller[RepositoryBuildStatus]:
    return Controller(REPOSITORY_BUILD_STATUSES, BuildReconciler(world.connections, cast(Bus, world.bus)))
