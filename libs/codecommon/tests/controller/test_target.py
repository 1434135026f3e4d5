"""From an object to its Repository and to the repository on the host, for every kind that refers to one."""

from __future__ import annotations

from typing import Any

import pytest

from codecommon.api.kinds import COLLABORATORS, DEPLOY_KEYS, REPOSITORY_COMMITS, KindSpec
from codecommon.api.results import NotReady, Terminal
from codecommon.controller.context import ReconcileContext
from codecommon.controller.target import find_repository, open_target, require_repository, require_staying
from codecommon.testing.builders import (
    collaborator_object,
    connection_object,
    deleting,
    deploy_key_object,
    made_repository,
    manifest,
    repository_object,
    secret_object,
    validated_connection,
)
from codecommon.testing.harness import World

COMMIT = {"repositoryRef": "site", "source": {"type": "Bundle", "bundleRef": {"name": "b"}}}
OBJECTS = {
    DEPLOY_KEYS: deploy_key_object(),
    COLLABORATORS: collaborator_object(),
    REPOSITORY_COMMITS: manifest(REPOSITORY_COMMITS, "first", **COMMIT),
}


@pytest.fixture
def world() -> World:
    world = World()
    world.add(secret_object(), validated_connection())
    return world


@pytest.fixture(params=OBJECTS, ids=lambda kind: kind.kind)
def ctx(world: World, request: pytest.FixtureRequest) -> ReconcileContext[Any]:
    kind: KindSpec[Any] = request.param
    return ReconcileContext(kind, frozenset(), world.objects, world.add(OBJECTS[kind]))


async def test_a_repository_on_the_host_is_opened_for_its_owner(world: World, ctx: ReconcileContext[Any]) -> None:
    world.add(made_repository(repo_id="7"))

    target = await open_target(ctx, world.connections, await require_repository(ctx))

    assert (target.repo_id, target.owner, target.host.host) == ("7", "octocat", "git.example")


async def test_without_the_repository_the_object_waits(world: World, ctx: ReconcileContext[Any]) -> None:
    assert await find_repository(ctx) is None
    with pytest.raises(NotReady, match=r"RepositoryNotFound.*'site' does not exist"):
        await require_repository(ctx)


async def test_while_the_repository_is_not_on_the_host_the_object_waits(
    world: World, ctx: ReconcileContext[Any]
) -> None:
    world.add(repository_object())
    repository = await require_repository(ctx)
    require_staying(repository)

    with pytest.raises(NotReady, match=r"RepositoryNotReady.*not on the host yet"):
        await open_target(ctx, world.connections, repository)
    assert not world.opened


async def test_while_the_repository_is_being_deleted_the_object_waits_unless_it_cleans_up(
    world: World, ctx: ReconcileContext[Any]
) -> None:
    world.add(deleting(made_repository(repo_id="7")))
    repository = await require_repository(ctx)

    with pytest.raises(NotReady, match=r"RepositoryNotReady.*is being deleted"):
        require_staying(repository)
    assert (await open_target(ctx, world.connections, repository, live=True)).repo_id == "7"


async def test_a_connection_that_is_not_validated_is_used_to_clean_up_alone(
    world: World, ctx: ReconcileContext[Any]
) -> None:
    world.kcp.remove("connections", "main")
    world.add(connection_object(), made_repository(repo_id="7"))
    repository = await require_repository(ctx)

    with pytest.raises(NotReady, match=r"ConnectionNotReady"):
        await open_target(ctx, world.connections, repository)
    assert (await open_target(ctx, world.connections, repository, live=True)).repo_id == "7"


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("on_record_of", ["the Repository", "the object"])
async def test_the_host_on_record_is_the_only_one_that_is_touched(
    world: World, ctx: ReconcileContext[Any], on_record_of: str, live: bool
) -> None:
    raw = made_repository(repo_id="7")
    raw["status"]["host"] = "elsewhere.example" if on_record_of == "the Repository" else "GIT.example"
    world.add(raw)
    repository = await require_repository(ctx)
    pinned = "elsewhere.example" if on_record_of == "the object" else None

    with pytest.raises(Terminal, match=r"IdentityConflict.*on elsewhere.example, .* points to git.example"):
        await open_target(ctx, world.connections, repository, pinned=pinned, live=live)
