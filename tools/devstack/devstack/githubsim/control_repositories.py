"""What the control API does to repositories themselves; `control_access` has who may reach them."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from devstack.githubsim.control_request import (
    NUMBER,
    TEXT_OR_NULL,
    Kinds,
    Route,
    assign,
    by_user_id,
    find_account,
    find_repository,
    read_fields,
)
from devstack.githubsim.names import repository_name
from devstack.githubsim.records import TOGGLES, Repository
from devstack.githubsim.simulation import Simulation
from devstack.githubsim.world import World

_REPOSITORY: Kinds = {
    "description": TEXT_OR_NULL,
    "homepage": TEXT_OR_NULL,
    "visibility": str,
    "default_branch": str,
    "archived": bool,
    "branches": list,
    "protected": list,
    "grants": dict,
    "created_at": NUMBER,
    **dict.fromkeys(TOGGLES, bool),
}


async def _create_repository(simulation: Simulation, request: web.Request) -> Any:
    fields = await read_fields(request, {"owner": str, "name": str, **_REPOSITORY}, required=("owner", "name"))
    world = simulation.world
    owner, name = find_account(world, fields.pop("owner")), repository_name(fields.pop("name"))
    repository = world.new_repository(owner, name, fields.pop("visibility", "private"))
    _apply(world, repository, fields)
    return repository_view(world, repository)


async def _edit_repository(simulation: Simulation, request: web.Request) -> Any:
    """`owner` and `name` transfer and rename; `branches` are added; a grant of null is withdrawn."""
    world, repository = simulation.world, find_repository(simulation.world, request)
    fields = await read_fields(request, {"owner": str, "name": str, **_REPOSITORY})
    owner = find_account(world, fields.pop("owner")) if "owner" in fields else None
    name = repository_name(fields.pop("name")) if "name" in fields else None
    if owner or name:
        world.move(repository, owner=owner, name=name)
    _apply(world, repository, fields)
    repository.updated_at = simulation.clock()
    return repository_view(world, repository)


def _apply(world: World, repository: Repository, fields: dict[str, Any]) -> None:
    for branch in fields.pop("branches", []):
        world.push(repository, branch)
    for user_id, role in by_user_id(world, fields.pop("grants", {})).items():
        if role is None:
            repository.grants.pop(user_id, None)
        else:
            repository.grants[user_id] = role
    repository.toggles |= {name: fields.pop(name) for name in TOGGLES if name in fields}
    assign(repository, fields)


async def _get_repository(simulation: Simulation, request: web.Request) -> Any:
    return repository_view(simulation.world, find_repository(simulation.world, request))


async def _delete_repository(simulation: Simulation, request: web.Request) -> Any:
    simulation.world.delete(find_repository(simulation.world, request))


def repository_view(world: World, repository: Repository) -> dict[str, Any]:
    return {
        "id": repository.id,
        "owner": world.owner(repository).login,
        "name": repository.name,
        "visibility": repository.visibility,
        "description": repository.description,
        "default_branch": repository.default_branch,
        "archived": repository.archived,
        "branches": sorted(repository.branches),
        "created_at": repository.created_at,
        "toggles": repository.toggles,
    }


ROUTES: tuple[Route, ...] = (
    ("POST", "/repos", _create_repository),
    ("GET", "/repos/{owner}/{name}", _get_repository),
    ("PATCH", "/repos/{owner}/{name}", _edit_repository),
    ("DELETE", "/repos/{owner}/{name}", _delete_repository),
)
