"""Keeping a World in a JSON file between two runs of the simulator.

The file holds the simulator's own made-up tokens and the OAuth apps' secrets, so that a restarted demonstration
keeps working; it is readable by its owner only. An OAuth code does not outlive the process. The git repositories are in a
folder beside it.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from devstack.githubsim.gitstore import GitStore
from devstack.githubsim.records import (
    App,
    DeployKey,
    Installation,
    Invitation,
    OAuthApp,
    Organization,
    Package,
    PackageVersion,
    Repository,
    Team,
    Token,
    User,
    WorkflowJob,
    WorkflowRun,
)
from devstack.githubsim.world import Clock, World


def load(path: Path, clock: Clock) -> World:
    """The World in the file, or an empty one if there is no file."""
    world = World(clock)
    world.git = GitStore(path.with_name(f"{path.name}.git"))
    try:
        document = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return world
    for fields in document["users"]:
        world.add_account(User(**fields))
    for fields in document["organizations"]:
        world.add_account(Organization(**fields | {"members": _int_keys(fields["members"]), "teams": _teams(fields)}))
    for fields in document["tokens"]:
        world.add_token(Token(**fields))
    for fields in document["apps"]:
        world.apps[fields["id"]] = App(**fields)
    for fields in document["installations"]:
        world.installations[fields["id"]] = Installation(**fields)
    world.oauth_apps = {fields["client_id"]: OAuthApp(**fields) for fields in document.get("oauth_apps", ())}
    for fields in document["repositories"]:
        world.add_repository(Repository(**fields | {"grants": _int_keys(fields["grants"])}))
    world.keys = {fields["id"]: DeployKey(**fields) for fields in document["keys"]}
    world.invitations = {fields["id"]: Invitation(**fields) for fields in document["invitations"]}
    world.moved = {(owner, name): target for owner, name, target in document["moved"]}
    for fields in document.get("packages", ()):
        world.packages.add(Package(**fields | {name: _versions(fields[name]) for name in ("versions", "deleted")}))
    for fields in document.get("runs", ()):
        world.runs[fields["id"]] = WorkflowRun(**fields | {"jobs": [WorkflowJob(**job) for job in fields["jobs"]]})
    world.next_id |= document["next_id"]
    for repository in world.repositories.values():
        # The file of an earlier version names commits that are nowhere.
        for branch, sha in repository.branches.items():
            if world.git.commit(repository.id, sha) is None:
                world.push(repository, branch)
    return world


def save(path: Path, world: World) -> None:
    """Replace the file in one step; a reader never sees half of it."""
    document = {
        "users": [asdict(account) for account in world.accounts.values() if isinstance(account, User)],
        "organizations": [asdict(account) for account in world.accounts.values() if isinstance(account, Organization)],
        "tokens": [asdict(token) for token in world.tokens.values()],
        "apps": [asdict(app) for app in world.apps.values()],
        "installations": [asdict(installation) for installation in world.installations.values()],
        "oauth_apps": [asdict(app) for app in world.oauth_apps.values()],
        "repositories": [asdict(repository) for repository in world.repositories.values()],
        "keys": [asdict(key) for key in world.keys.values()],
        "invitations": [asdict(invitation) for invitation in world.invitations.values()],
        "packages": list(world.packages),
        "runs": [asdict(run) for run in world.runs.values()],
        "moved": [[owner, name, target] for (owner, name), target in world.moved.items()],
        "next_id": world.next_id,
    }
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS))
    new.replace(path)


def _teams(fields: dict[str, Any]) -> dict[str, Team]:
    return {
        name: Team(members=team["members"], repositories=_int_keys(team["repositories"]))
        for name, team in fields["teams"].items()
    }


def _versions(listed: list[dict[str, Any]]) -> list[PackageVersion]:
    return [PackageVersion(**fields | {"tags": tuple(fields["tags"])}) for fields in listed]


def _int_keys(mapping: dict[str, str]) -> dict[int, str]:
    return {int(key): value for key, value in mapping.items()}
