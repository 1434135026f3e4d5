"""The packages of every account, kept consistent with the repositories that they are linked to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from devstack.githubsim.names import NameTaken
from devstack.githubsim.records import Account, Package, PackageType, PackageVersion, Repository, Visibility

_Key = tuple[PackageType, str]


class PackageStore:
    """Packages by owner, type and name (in any case). `allocate` gives out ids by kind, `clock` seconds since the epoch."""

    def __init__(self, clock: Callable[[], float], allocate: Callable[[str], int]) -> None:
        self._clock = clock
        self._allocate = allocate
        self._by_owner: dict[int, dict[_Key, Package]] = {}

    def __iter__(self) -> Iterator[Package]:
        return (package for owned in self._by_owner.values() for package in owned.values())

    def owned_by(self, owner_id: int) -> Collection[Package]:
        return self._by_owner.get(owner_id, {}).values()

    def find(self, owner_id: int, package_type: PackageType, name: str) -> Package | None:
        return self._by_owner.get(owner_id, {}).get((package_type, name.lower()))

    def add(self, package: Package) -> None:
        """Raises NameTaken if the owner has a package of this type and name."""
        owned = self._by_owner.setdefault(package.owner_id, {})
        if _key(package) in owned:
            raise NameTaken(package.name)
        owned[_key(package)] = package

    def new_package(
        self,
        owner: Account,
        package_type: PackageType,
        name: str,
        *,
        visibility: Visibility = "private",
        repository: Repository | None = None,
    ) -> Package:
        """A package without versions. Raises NameTaken."""
        now = self._clock()
        package = Package(
            id=self._allocate("package"),
            owner_id=owner.id,
            package_type=package_type,
            name=name,
            created_at=now,
            updated_at=now,
            visibility=visibility,
            repository_id=None if repository is None else repository.id,
        )
        self.add(package)
        return package

    def publish(self, package: Package, name: str | None, tags: Iterable[str] = ()) -> PackageVersion:
        """The version of this name, new or as it is, with the tags besides those it has; other versions lose them."""
        now = self._clock()
        version = None if name is None else self.version(package, name)
        if version is None:
            version = self.append(package, name)
        moved = dict.fromkeys(tags)
        for other in package.versions:
            if other is not version and not moved.keys().isdisjoint(other.tags):
                other.tags = tuple(tag for tag in other.tags if tag not in moved)
                other.updated_at = now
        version.tags = tuple({**dict.fromkeys(version.tags), **moved})
        version.updated_at = package.updated_at = now
        return version

    def append(self, package: Package, name: str | None, tags: tuple[str, ...] = ()) -> PackageVersion:
        """A new version. The caller knows that no other one has the name or the tags."""
        now = self._clock()
        identifier = self._allocate("package-version")
        version = PackageVersion(id=identifier, created_at=now, updated_at=now, version_name=name, tags=tags)
        package.versions.append(version)
        package.updated_at = now
        return version

    def version(self, package: Package, name: str) -> PackageVersion | None:
        return next((version for version in package.versions if version.name == name), None)

    def delete_version(self, package: Package, version: PackageVersion) -> None:
        """The package's own time stays: only its number of versions tells."""
        package.versions.remove(version)
        version.deleted_at = self._clock()
        package.deleted.append(version)

    def delete(self, package: Package) -> None:
        del self._by_owner[package.owner_id][_key(package)]

    def require_free(self, repository: Repository, new_owner_id: int) -> None:
        """Raises NameTaken if a package that a transfer takes along is called as one of the new owner."""
        for package in self._linked(repository, repository.owner_id):
            if not package.granular and self.find(new_owner_id, package.package_type, package.name):
                raise NameTaken(package.name)

    def repository_transferred(self, repository: Repository, old_owner_id: int) -> None:
        """Granular packages stay with the account and lose the link; the others go with the repository."""
        for package in self._linked(repository, old_owner_id):
            if package.granular:
                package.repository_id = None
            else:
                self.delete(package)
                package.owner_id = repository.owner_id
                self.add(package)

    def repository_deleted(self, repository: Repository) -> None:
        """Granular packages lose the link; the others are gone."""
        for package in [package for package in self if package.repository_id == repository.id]:
            package.repository_id = None
            if not package.granular:
                self.delete(package)

    def _linked(self, repository: Repository, owner_id: int) -> list[Package]:
        return [package for package in self.owned_by(owner_id) if package.repository_id == repository.id]


def _key(package: Package) -> _Key:
    return package.package_type, package.name.lower()
