"""Packages and their versions in GitHub's JSON."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from devstack.githubsim.access import role_of
from devstack.githubsim.calls import Call
from devstack.githubsim.records import Organization, Package, PackageVersion, Repository
from devstack.githubsim.views import repository_stub
from devstack.githubsim.views_account import account_stub, timestamp


def package_item(call: Call, package: Package) -> dict[str, Any]:
    """A package, in lists and on its own. Without `repository` if it has none, or one that the caller has no role in."""
    stated = call.switches.container_version_count if package.package_type == "container" else None
    repository = _repository(call, package)
    body: dict[str, Any] = {
        "id": package.id,
        "name": package.name,
        "package_type": package.package_type,
        "owner": account_stub(call.urls, call.world.accounts[package.owner_id]),
        "version_count": len(package.versions) if stated is None else stated,
        "visibility": "public" if package.visibility == "public" else "private",
        "url": f"{call.urls.api}/{_place(call, package)}/{_named(package)}",
        "created_at": timestamp(package.created_at),
        "updated_at": timestamp(package.updated_at),
    }
    if repository is not None and _shows(call, repository):
        body["repository"] = repository_stub(call, repository)
    return body | {"html_url": _page(call, package)}


def version_item(call: Call, package: Package, version: PackageVersion) -> dict[str, Any]:
    metadata: dict[str, Any] = {"package_type": package.package_type}
    if package.package_type == "container":
        metadata["container"] = {"tags": version.tags}
    body: dict[str, Any] = {
        "id": version.id,
        "name": version.name,
        "url": f"{call.urls.api}/{_place(call, package)}/{_named(package)}/versions/{version.id}",
        "package_html_url": _page(call, package),
        "created_at": timestamp(version.created_at),
        "updated_at": timestamp(version.updated_at),
        "html_url": f"{call.urls.web}/{_place(call, package)}/{_named(package)}/{version.id}",
        "metadata": metadata,
    }
    if version.deleted_at is not None:
        body["deleted_at"] = timestamp(version.deleted_at)
    return body


def _repository(call: Call, package: Package) -> Repository | None:
    return None if package.repository_id is None else call.world.repositories[package.repository_id]


def _shows(call: Call, repository: Repository) -> bool:
    # A token needs no scope for repositories to be told which one a granular package is linked to.
    return repository.visibility == "public" or role_of(call.world, call.caller.user, repository) is not None


def _place(call: Call, package: Package) -> str:
    owner = call.world.accounts[package.owner_id]
    return f"{'orgs' if isinstance(owner, Organization) else 'users'}/{owner.login}/packages"


def _named(package: Package) -> str:
    return f"{package.package_type}/{quote(package.name, safe='')}"


def _page(call: Call, package: Package) -> str:
    """The package's address on the web: below its repository where it belongs to one."""
    repository = _repository(call, package)
    if repository is not None and not package.granular:
        return f"{call.urls.web}/{call.world.owner(repository).login}/{repository.name}/packages/{package.id}"
    return f"{call.urls.web}/{_place(call, package)}/{package.package_type}/package/{quote(package.name, safe='')}"
