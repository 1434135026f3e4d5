"""Who is a member of which organisation and workspace. The hub keeps this in objects; here it is in memory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from devstack.static_users import StaticUser

_NAMESPACE = uuid.UUID("6f1d5f52-5d3a-4a43-9d61-5b6b1a2f7e10")


@dataclass(frozen=True)
class Organization:
    """`path` is ``<hub>:tenants:<uuid>``. Nobody addresses its workspace directly; it holds those of the teams."""

    uuid: str
    display_name: str
    path: str
    personal: bool = False


@dataclass(frozen=True)
class Workspace:
    """A team's workspace, where providers are enabled. `cluster` is its logical-cluster ID."""

    uuid: str
    organization: Organization
    display_name: str
    cluster: str

    @property
    def path(self) -> str:
        return f"{self.organization.path}:{self.uuid}"


@dataclass(frozen=True)
class Membership:
    """`workspace` is None for a membership of the whole organisation."""

    organization: str
    workspace: str | None


class Tenancy:
    """Organisations by name, workspaces by UUID, and the memberships of users.

    The UUID of an organisation follows from its name. So it stays the same when the stack is started again, and what a
    developer has configured goes on to work.
    """

    def __init__(self, hub_path: str) -> None:
        self._path = f"{hub_path}:tenants"
        self._organizations: dict[str, Organization] = {}
        self._workspaces: dict[tuple[str, str], Workspace] = {}
        self._memberships: dict[str, list[Membership]] = {}

    def organization(self, name: str) -> Organization:
        """The organisation called `name`, made if it is new."""
        return self._ensure(str(uuid.uuid5(_NAMESPACE, name)), name, personal=False)

    def personal(self, user: StaticUser) -> Organization:
        """The organisation that the user alone is a member of. Every user has one."""
        made = self._ensure(str(uuid.uuid5(_NAMESPACE, user.name)), user.email, personal=True)
        self.join(user, made)
        return made

    def _ensure(self, identifier: str, name: str, *, personal: bool) -> Organization:
        made = Organization(identifier, name, f"{self._path}:{identifier}", personal)
        return self._organizations.setdefault(identifier, made)

    def add_workspace(
        self, organization: Organization, display_name: str, *, identifier: str, cluster: str
    ) -> Workspace:
        made = Workspace(identifier, organization, display_name, cluster)
        self._workspaces[organization.uuid, identifier] = made
        return made

    def remove_workspace(self, organization: str, workspace: str) -> None:
        """Forgets the workspace and who was a member of it."""
        self._workspaces.pop((organization, workspace), None)
        gone = Membership(organization, workspace)
        for entries in self._memberships.values():
            entries[:] = [entry for entry in entries if entry != gone]

    def join(self, user: StaticUser, organization: Organization, workspace: Workspace | None = None) -> None:
        entry = Membership(organization.uuid, workspace.uuid if workspace else None)
        entries = self._memberships.setdefault(user.name, [])
        if entry not in entries:
            entries.append(entry)

    def memberships(self, user: StaticUser) -> list[Membership]:
        return list(self._memberships.get(user.name, ()))

    def is_in_organization(self, user: StaticUser, organization: str) -> bool:
        """Whether any membership names the organisation."""
        return any(entry.organization == organization for entry in self.memberships(user))

    def covers(self, user: StaticUser, organization: str, workspace: str) -> bool:
        """Whether the user is a member of the workspace, or of its whole organisation."""
        entries = self.memberships(user)
        return Membership(organization, workspace) in entries or Membership(organization, None) in entries

    def organizations_of(self, user: StaticUser) -> list[Organization]:
        """The personal one first, then the others as the user joined them."""
        self.personal(user)
        found = dict.fromkeys(self._organizations[entry.organization] for entry in self.memberships(user))
        return sorted(found, key=lambda organization: not organization.personal)

    def workspaces_of(self, user: StaticUser) -> Iterator[Workspace]:
        """The workspaces that a membership covers, in the order in which they were made."""
        for (organization, identifier), workspace in self._workspaces.items():
            if self.covers(user, organization, identifier):
                yield workspace

    def workspace(self, organization: str, identifier: str) -> Workspace | None:
        return self._workspaces.get((organization, identifier))

    def is_member_of_cluster(self, user: StaticUser, cluster: str) -> bool:
        """Whether the logical cluster is that of a workspace which a membership covers."""
        return any(workspace.cluster == cluster for workspace in self.workspaces_of(user))

    def requested_path(self, user: StaticUser, organization: str | None, workspace: str | None) -> str | None:
        """The workspace path for the UUIDs that a caller sends, if a membership allows it (hub-contract.md §3.3).

        The hub does not check that the workspace exists.
        """
        if not organization or not self.is_in_organization(user, organization):
            return None
        if not workspace:
            return f"{self._path}:{organization}"
        return f"{self._path}:{organization}:{workspace}" if self.covers(user, organization, workspace) else None

    def is_organization_path(self, path: str) -> bool:
        """Whether the path is that of an organisation's own workspace, known or not."""
        return path.startswith(f"{self._path}:") and ":" not in path.removeprefix(f"{self._path}:")

    def organization_at(self, path: str) -> Organization | None:
        """The organisation whose own workspace has this path."""
        return next((found for found in self._organizations.values() if found.path == path), None)

    def cluster_of(self, path: str) -> str | None:
        """The logical-cluster ID of a team's workspace by its path."""
        return next((workspace.cluster for workspace in self._workspaces.values() if workspace.path == path), None)
