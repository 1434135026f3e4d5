"""Packages and their versions: of an organisation, of a user, and of the caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeVar

from devstack.githubsim.access import out_of_reach, role_of, sees, visible_account, visible_organization
from devstack.githubsim.calls import Answer, ApiError, Call, Operation, not_found
from devstack.githubsim.paging import page, requested_page
from devstack.githubsim.records import PACKAGE_TYPES, Account, Organization, Package, PackageType, User
from devstack.githubsim.views_packages import package_item, version_item

Item = TypeVar("Item")

MAX_LISTED = 10_000
"""Packages that pages lead to."""

_READING_SCOPES = {"read:packages", "write:packages"}
_VISIBILITIES = ("public", "private", "internal")


def list_packages(call: Call) -> Answer:
    """Of one type, the oldest first."""
    owner = _requested_owner(call)
    token = call.caller.token
    if token is not None and token.kind == "installation":
        raise ApiError(400, "Invalid argument.")
    _require_scope(call, "to list packages")
    package_type = _package_type(call.query.get("package_type"))
    visibility = call.query.get("visibility")
    if package_type is None or (visibility is not None and visibility not in _VISIBILITIES):
        raise ApiError(400, "Invalid argument.")
    per_page, number = requested_page(call)
    if per_page * number > MAX_LISTED:
        raise ApiError(400, f"The value of `per_page` multiplied by `page` cannot be greater than {MAX_LISTED}.")
    visible = _sight(call, owner)
    found = [
        package
        for package in call.world.packages.owned_by(owner.id)
        if package.package_type == package_type and visibility in (None, package.visibility) and visible(package)
    ]
    return _listed(call, found, lambda package: package_item(call, package))


def get_package(call: Call) -> Answer:
    package = _requested_package(call, "to get a package")
    return Answer(body=package_item(call, package))


def list_versions(call: Call) -> Answer:
    """The newest first."""
    package = _requested_package(call, "to get a package's versions")
    versions = package.deleted if call.query.get("state") == "deleted" else package.versions
    return _listed(call, versions[::-1], lambda version: version_item(call, package, version))


def get_version(call: Call) -> Answer:
    package = _requested_package(call, "to get a package version")
    identifier = int(call.params["package_version_id"])
    version = next((version for version in package.versions if version.id == identifier), None)
    if version is None:
        raise not_found()
    return Answer(body=version_item(call, package, version))


def _listed(call: Call, items: Sequence[Item], view: Callable[[Item], object]) -> Answer:
    shown, headers = page(call, items)
    return Answer(body=[view(item) for item in shown], headers=headers if call.switches.package_links else {})


def _requested_owner(call: Call) -> Account:
    """Raises ApiError 404 for an account of the other kind, too."""
    if "org" in call.params:
        return visible_organization(call, call.params["org"])
    if "username" not in call.params:
        return call.user
    account = visible_account(call, call.params["username"])
    if not isinstance(account, User):
        raise not_found()
    return account


def _requested_package(call: Call, purpose: str) -> Package:
    """Raises ApiError 403 for a token that may not read packages, and 404."""
    owner = _requested_owner(call)
    token = call.caller.token
    if token is not None and token.kind == "installation":
        raise _no_package()
    _require_scope(call, purpose)
    package_type = _package_type(call.params["package_type"])
    if package_type is None:
        raise _no_package()
    package = call.world.packages.find(owner.id, package_type, call.params["package_name"])
    if package is None or not _sight(call, owner)(package):
        raise _no_package()
    return package


def _require_scope(call: Call, purpose: str) -> None:
    """Packages are for classic and OAuth tokens only. Raises ApiError 403."""
    token = call.caller.token
    assert token is not None
    if token.by_permissions:
        raise out_of_reach(token)
    if _READING_SCOPES.isdisjoint(token.scopes):
        raise ApiError(403, f"You need at least read:packages scope {purpose}.")


def _sight(call: Call, owner: Account) -> Callable[[Package], bool]:
    """Which of the owner's packages the caller sees.

    A granular package by its own visibility or a role in its repository; another one with its repository.
    """
    membership = owner.members.get(call.user.id) if isinstance(owner, Organization) else None
    sees_all = owner.id == call.user.id or membership == "admin"

    # Thousands of packages may be of a few repositories.
    @cache
    def reads(repository_id: int, granular: bool) -> bool:
        repository = call.world.repositories[repository_id]
        return role_of(call.world, call.user, repository) is not None if granular else sees(call, repository)

    def allowed(package: Package) -> bool:
        if package.granular and (
            sees_all or package.visibility == "public" or (membership is not None and package.visibility == "internal")
        ):
            return True
        return package.repository_id is not None and reads(package.repository_id, package.granular)

    return allowed


def _package_type(text: str | None) -> PackageType | None:
    return next((package_type for package_type in PACKAGE_TYPES if package_type == text), None)


def _no_package() -> ApiError:
    return ApiError(404, "Package not found.")


def _operations(base: str, whose: str, *, for_users: bool = False) -> tuple[Operation, ...]:
    """The same operations for one way to name the owner. `whose` ends the anchors in the documentation."""
    one = f"{base}/{{package_type}}/{{package_name}}"
    described = (
        (base, list_packages, f"list-packages-for-{'the-authenticated-users-namespace' if for_users else whose}"),
        (one, get_package, f"get-a-package-for-{whose}"),
        (f"{one}/versions", list_versions, f"list-package-versions-for-a-package-owned-by-{whose}"),
        (f"{one}/versions/{{package_version_id:\\d+}}", get_version, f"get-a-package-version-for-{whose}"),
    )
    return tuple(
        Operation(
            method="GET",
            path=path,
            handler=handler,
            docs=f"packages/packages#{anchor}",
            scopes="read:packages",
            permissions="packages=read",
            for_users=for_users,
        )
        for path, handler, anchor in described
    )


OPERATIONS = (
    *_operations("/orgs/{org}/packages", "an-organization"),
    *_operations("/users/{username}/packages", "a-user"),
    *_operations("/user/packages", "the-authenticated-user", for_users=True),
)
