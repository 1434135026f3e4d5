"""What the control API does to keys, invitations, grants and teams. Raises LookupError for what is not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from devstack.githubsim.control_request import Handler, Kinds, Route, find_organization, find_repository, read_fields
from devstack.githubsim.records import DeployKey, Invitation, Repository, Team, User
from devstack.githubsim.simulation import Simulation
from devstack.githubsim.world import World

Act = Callable[[World, Repository, Mapping[str, str], dict[str, Any]], Any]


async def _all_keys(simulation: Simulation, request: web.Request) -> Any:
    """Every deploy key of the host with its repository, as a server for git over SSH needs them."""
    return [_key_view(simulation.world, key) for key in simulation.world.keys.values()]


def _key_view(world: World, key: DeployKey) -> dict[str, Any]:
    repository = world.repositories[key.repository_id]
    return {
        "id": key.id,
        "repository": f"{world.owner(repository).login}/{repository.name}",
        "repo_id": repository.id,
        "title": key.title,
        "key": key.key,
        "read_only": key.read_only,
    }


async def _set_team(simulation: Simulation, request: web.Request) -> Any:
    """`members` are logins, `repositories` names to roles; both replace what was there."""
    world = simulation.world
    org = find_organization(world, request)
    fields = await read_fields(request, {"members": list, "repositories": dict})
    team = Team(members=[_user(world, login).id for login in fields.get("members", [])])
    for repository_name, role in fields.get("repositories", {}).items():
        repository = world.find(org, repository_name)
        if repository is None:
            raise LookupError(f"no such repository: {org.login}/{repository_name}")
        team.repositories[repository.id] = role
    org.teams[request.match_info["team"]] = team


def _on_repository(act: Act, known: Kinds, required: tuple[str, ...]) -> Handler:
    async def handle(simulation: Simulation, request: web.Request) -> Any:
        fields = await read_fields(request, known, required) if known else {}
        return act(simulation.world, find_repository(simulation.world, request), request.match_info, fields)

    return handle


def _list_keys(world: World, repository: Repository, params: Mapping[str, str], fields: dict[str, Any]) -> Any:
    return [_key_view(world, key) for key in world.keys_of(repository)]


def _add_key(world: World, repository: Repository, params: Mapping[str, str], fields: dict[str, Any]) -> Any:
    """As a person would in the browser: no token has made it, so it goes with none. Raises KeyTaken."""
    by = _user(world, fields["login"])
    material = " ".join(fields["key"].split()[:2])
    key = world.new_key(repository, fields.get("title", ""), material, fields.get("read_only", True), by, None)
    return _key_view(world, key)


def _delete_key(world: World, repository: Repository, params: Mapping[str, str], fields: dict[str, Any]) -> None:
    key = world.keys.get(int(params["key_id"]))
    if key is None or key.repository_id != repository.id:
        raise LookupError("no such key")
    del world.keys[key.id]


def _list_invitations(world: World, repository: Repository, params: Mapping[str, str], fields: dict[str, Any]) -> Any:
    now = world.clock()
    return [
        {
            "id": item.id,
            "login": world.user(item.invitee_id).login,
            "role": item.role,
            "created_at": item.created_at,
            "expired": item.expired(now),
        }
        for item in world.invitations_of(repository)
    ]


def _invite(world: World, repository: Repository, params: Mapping[str, str], fields: dict[str, Any]) -> None:
    """As a person did in the browser some day: today's number of invitations stays as it is."""
    world.invite(repository, _user(world, fields["login"]), _user(world, fields["by"]), fields.get("role", "write"))


def _accept(world: World, repository: Repository, params: Mapping[str, str], fields: dict[str, Any]) -> None:
    """Raises LookupError also for an expired one, which the host does not let anybody accept."""
    invitation = _invitation(world, repository, params)
    if invitation.expired(world.clock()):
        raise LookupError("the invitation has expired")
    del world.invitations[invitation.id]
    repository.grants[invitation.invitee_id] = invitation.role


def _decline(world: World, repository: Repository, params: Mapping[str, str], fields: dict[str, Any]) -> None:
    del world.invitations[_invitation(world, repository, params).id]


def _expire(world: World, repository: Repository, params: Mapping[str, str], fields: dict[str, Any]) -> None:
    _invitation(world, repository, params).forced_expiry = True


def _invitation(world: World, repository: Repository, params: Mapping[str, str]) -> Invitation:
    invitation = world.invitation_for(repository, _user(world, params["login"]))
    if invitation is None:
        raise LookupError(f"{params['login']} is not invited")
    return invitation


def _grants(world: World, repository: Repository, params: Mapping[str, str], fields: dict[str, Any]) -> Any:
    return {world.user(user_id).login: role for user_id, role in repository.grants.items()}


def _user(world: World, login: str) -> User:
    account = world.account(login)
    if not isinstance(account, User):
        raise LookupError(f"no such user: {login}")
    return account


_KEY: Kinds = {"title": str, "key": str, "read_only": bool, "login": str}

_ON_REPOSITORY: tuple[tuple[str, str, Act, Kinds, tuple[str, ...]], ...] = (
    ("GET", "/keys", _list_keys, {}, ()),
    ("POST", "/keys", _add_key, _KEY, ("key", "login")),
    ("DELETE", r"/keys/{key_id:\d+}", _delete_key, {}, ()),
    ("GET", "/grants", _grants, {}, ()),
    ("GET", "/invitations", _list_invitations, {}, ()),
    ("POST", "/invitations", _invite, {"login": str, "by": str, "role": str}, ("login", "by")),
    ("POST", "/invitations/{login}/accept", _accept, {}, ()),
    ("POST", "/invitations/{login}/decline", _decline, {}, ()),
    ("POST", "/invitations/{login}/expire", _expire, {}, ()),
)
"""Method, path below a repository, what it does, the fields of its body and which of them it needs."""

ROUTES: tuple[Route, ...] = (
    ("GET", "/keys", _all_keys),
    ("PUT", "/orgs/{login}/teams/{team}", _set_team),
    *(
        (method, "/repos/{owner}/{name}" + tail, _on_repository(act, known, required))
        for method, tail, act, known, required in _ON_REPOSITORY
    ),
)
