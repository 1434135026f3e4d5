"""What the control API does to packages. Raises NameTaken, and LookupError for what is not there."""

from __future__ import annotations

import re
from typing import Any, cast

from aiohttp import web

from devstack.githubsim.control_request import TEXT_OR_NULL, ControlError, Route, find_account, read_fields
from devstack.githubsim.records import (
    GRANULAR_TYPES,
    PACKAGE_TYPES,
    Account,
    Package,
    PackageType,
    PackageVersion,
    Repository,
    Visibility,
)
from devstack.githubsim.simulation import Simulation
from devstack.githubsim.world import World

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VISIBILITIES = ("public", "private", "internal")
_PACKAGE = "/packages/{login}/{package_type}/{name}"


async def _publish_package(simulation: Simulation, request: web.Request) -> Any:
    known = {"owner": str, "package_type": str, "name": str, "repository": TEXT_OR_NULL, "visibility": str}
    fields = await read_fields(request, known, required=("owner", "package_type", "name"))
    world = simulation.world
    owner, package_type = find_account(world, fields["owner"]), _package_type(fields["package_type"])
    package = world.packages.new_package(
        owner,
        package_type,
        fields["name"],
        visibility=_visibility(fields),
        repository=_linked(world, owner, package_type, fields.get("repository")),
    )
    return _package_view(world, package)


async def _publish_many(simulation: Simulation, request: web.Request) -> Any:
    known = {
        "owner": str,
        "count": int,
        "versions": int,
        "tags": int,
        "package_type": str,
        "prefix": str,
        "repositories": list,
        "visibility": str,
    }
    fields = await read_fields(request, known, required=("owner", "count"))
    world = simulation.world
    owner, package_type = find_account(world, fields["owner"]), _package_type(fields.get("package_type", "container"))
    visibility, count, versions = _visibility(fields), fields["count"], fields.get("versions", 1)
    links = [_linked(world, owner, package_type, name) for name in fields.get("repositories", ())]
    if not links:
        links = [_linked(world, owner, package_type, None)]
    container = package_type == "container"
    tags = tuple(f"v{number}" for number in range(fields.get("tags", 1))) if container else ()
    # Packages share what they can: there may be very many.
    names = [None if container else f"1.0.{number}" for number in range(versions)]
    for number in range(count):
        package = world.packages.new_package(
            owner,
            package_type,
            f"{fields.get('prefix', 'package')}-{number:05}",
            visibility=visibility,
            repository=links[number % len(links)],
        )
        for name in names:
            world.packages.append(package, name)
        if package.versions:
            package.versions[-1].tags = tags
    return {"made": count}


async def _packages(simulation: Simulation, request: web.Request) -> Any:
    world = simulation.world
    owner = find_account(world, request.match_info["login"])
    return [_package_view(world, package) for package in world.packages.owned_by(owner.id)]


async def _edit_package(simulation: Simulation, request: web.Request) -> Any:
    world, package = simulation.world, _find(simulation.world, request)
    fields = await read_fields(request, {"repository": TEXT_OR_NULL, "visibility": str})
    if "repository" in fields:
        owner = world.accounts[package.owner_id]
        linked = _linked(world, owner, package.package_type, fields["repository"])
        package.repository_id = None if linked is None else linked.id
    if "visibility" in fields:
        package.visibility = _visibility(fields)
    package.updated_at = simulation.clock()
    return _package_view(world, package)


async def _delete_package(simulation: Simulation, request: web.Request) -> Any:
    simulation.world.packages.delete(_find(simulation.world, request))


async def _publish_version(simulation: Simulation, request: web.Request) -> Any:
    packages, package = simulation.world.packages, _find(simulation.world, request)
    fields = await read_fields(request, {"version": TEXT_OR_NULL, "tags": list})
    name, tags = fields.get("version"), fields.get("tags", [])
    if package.package_type == "container":
        if name is not None and not _DIGEST.fullmatch(name):
            raise ControlError(400, f"not a digest: {name}")
    elif tags:
        raise ControlError(400, "only versions of container packages have tags")
    elif name is None:
        name = f"1.0.{len(package.versions) + len(package.deleted)}"
    return _version_view(packages.publish(package, name, tags))


async def _versions(simulation: Simulation, request: web.Request) -> Any:
    return [_version_view(version) for version in reversed(_find(simulation.world, request).versions)]


async def _delete_version(simulation: Simulation, request: web.Request) -> Any:
    packages, package = simulation.world.packages, _find(simulation.world, request)
    version = packages.version(package, request.match_info["version"])
    if version is None:
        raise ControlError(404, f"no such version: {request.match_info['version']}")
    packages.delete_version(package, version)


def _find(world: World, request: web.Request) -> Package:
    owner, package_type = find_account(world, request.match_info["login"]), request.match_info["package_type"]
    package = world.packages.find(owner.id, _package_type(package_type), request.match_info["name"])
    if package is None:
        raise ControlError(404, f"no such package: {owner.login}/{package_type}/{request.match_info['name']}")
    return package


def _package_type(text: str) -> PackageType:
    if text not in PACKAGE_TYPES:
        raise ControlError(400, f"no such type of package: {text}; there are {', '.join(PACKAGE_TYPES)}")
    return cast(PackageType, text)


def _visibility(fields: dict[str, Any]) -> Visibility:
    visibility = fields.get("visibility", "private")
    if visibility not in _VISIBILITIES:
        raise ControlError(400, f"no such visibility: {visibility}")
    return cast(Visibility, visibility)


def _linked(world: World, owner: Account, package_type: PackageType, named: str | None) -> Repository | None:
    """The repository that a name, or owner/name, means. Only granular packages may do without."""
    if named is None:
        if package_type not in GRANULAR_TYPES:
            raise ControlError(400, f"a package of the type {package_type} needs a repository")
        return None
    login, _, name = named.rpartition("/")
    holder = find_account(world, login) if login else owner
    repository = world.find(holder, name)
    if repository is None:
        raise ControlError(404, f"no such repository: {holder.login}/{name}")
    return repository


def _package_view(world: World, package: Package) -> dict[str, Any]:
    repository = None if package.repository_id is None else world.repositories[package.repository_id]
    return {
        "id": package.id,
        "owner": world.accounts[package.owner_id].login,
        "package_type": package.package_type,
        "name": package.name,
        "visibility": package.visibility,
        "repository": None if repository is None else f"{world.owner(repository).login}/{repository.name}",
        "version_count": len(package.versions),
        "created_at": package.created_at,
        "updated_at": package.updated_at,
    }


def _version_view(version: PackageVersion) -> dict[str, Any]:
    return {"id": version.id, "name": version.name, "tags": version.tags, "created_at": version.created_at}


ROUTES: tuple[Route, ...] = (
    ("POST", "/packages", _publish_package),
    ("POST", "/packages/many", _publish_many),
    ("GET", "/packages/{login}", _packages),
    ("PATCH", _PACKAGE, _edit_package),
    ("DELETE", _PACKAGE, _delete_package),
    ("GET", f"{_PACKAGE}/versions", _versions),
    ("POST", f"{_PACKAGE}/versions", _publish_version),
    ("DELETE", f"{_PACKAGE}/versions/{{version}}", _delete_version),
)
