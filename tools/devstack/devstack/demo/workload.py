"""What the demonstration's tenants declare."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from devstack.githubsim import SimControl
from devstack.githubsim.control import ControlRefused
from devstack.resources import CODE_API, Manifest

CONNECTION = "main"
TOKEN_SECRET = "git-token"
DEPLOY_KEY = "ci"
COLLABORATOR = "reviewer"
TEAMS = {"team-a": ("acme", "ada"), "team-b": ("globex", "grace")}
"""Workspace to (organization, its owner's login) on the simulator."""
GUEST = "rita"

REPOSITORIES = {"website": "What customers see", "backend": "What makes it go", "handbook": "How we work"}


@dataclass(frozen=True)
class Account:
    """What a team has on the git host. `base_url` is None for GitHub itself."""

    owner: str
    token: str = field(repr=False)
    base_url: str | None


@dataclass(frozen=True)
class Team:
    """One tenant: its workspace's name, its account, and repository object name to description.

    The first repository gets a deploy key, and ``guest`` as a collaborator if there is one.
    """

    workspace: str
    account: Account
    repositories: dict[str, str] = field(hash=False)
    guest: str | None = None
    conversed: str = "notes"
    """The repository that an assistant makes and deletes."""

    @property
    def shared(self) -> str:
        """The repository that others have access to."""
        return next(iter(self.repositories))

    def manifests(self) -> list[Manifest]:
        """Everything the team declares, in any order that applies."""
        spec = {
            "provider": "github",
            "type": "pat",
            "owner": self.account.owner,
            "secretRef": {"name": TOKEN_SECRET},
        }
        if self.account.base_url:
            spec["baseURL"] = self.account.base_url
        return [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": TOKEN_SECRET, "namespace": "default"},
                "stringData": {"token": self.account.token},
            },
            {"apiVersion": CODE_API, "kind": "Connection", "metadata": {"name": CONNECTION}, "spec": spec},
            *(self._repository(name, description) for name, description in self.repositories.items()),
            _access("DeployKey", DEPLOY_KEY, repositoryRef=self.shared, readOnly=True),
            *self._guests(),
        ]

    def _guests(self) -> list[Manifest]:
        if self.guest is None:
            return []
        return [
            _access("Collaborator", COLLABORATOR, repositoryRef=self.shared, username=self.guest, permission="push")
        ]

    def _repository(self, name: str, description: str) -> Manifest:
        return {
            "apiVersion": CODE_API,
            "kind": "Repository",
            "metadata": {"name": name},
            "spec": {
                "connectionRef": CONNECTION,
                "name": name,
                "visibility": "private",
                "description": description,
                "autoInit": True,
            },
        }


def _access(kind: str, name: str, **spec: Any) -> Manifest:
    return {"apiVersion": CODE_API, "kind": kind, "metadata": {"name": name}, "spec": spec}


async def simulated_teams(control: SimControl, url: str) -> list[Team]:
    """Two teams, each with an organization of its own on the simulator and a token that sees only that.

    The first one has a guest from outside its organization. A simulator that was stopped and started again has them already.
    """
    with suppress(ControlRefused):
        await control.create_user(GUEST)
    teams = []
    for workspace, (organization, login) in TEAMS.items():
        with suppress(ControlRefused):
            await control.create_user(login)
            await control.create_org(organization, members={login: "admin"})
        token = await control.create_token(login)
        guest = None if teams else GUEST
        teams.append(Team(workspace, Account(organization, token.value, url), dict(REPOSITORIES), guest))
    return teams


def github_team(token: str, owner: str) -> Team:
    """One team on GitHub itself, with private repositories whose names nobody else uses."""
    name = f"code-provider-demo-{uuid.uuid4().hex[:8]}"
    described = {name: "Made by a demonstration; it will be deleted again"}
    return Team("team-a", Account(owner, token, None), described, conversed=f"{name}-notes")
