"""What the control API does to users, organisations and tokens."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from devstack.githubsim.control_request import (
    NUMBER,
    TEXT_OR_NULL,
    ControlError,
    Kinds,
    Route,
    assign,
    by_user_id,
    find_account,
    find_organization,
    read_fields,
)
from devstack.githubsim.records import Token, User
from devstack.githubsim.simulation import Simulation
from devstack.githubsim.world import World

_ORGANIZATION: Kinds = {
    "members": dict,
    "hidden": bool,
    "saml": bool,
    "enterprise": bool,
    "members_can_create_repositories": bool,
    "members_can_delete_repositories": bool,
    "default_repository_permission": str,
    "deploy_keys_enabled": bool,
    "outside_collaborators_allowed": bool,
    "custom_roles": dict,
}
_TOKEN: Kinds = {
    "scopes": list,
    "permissions": dict,
    "hidden_orgs": list,
    "sso_orgs": list,
    "revoked": bool,
    "expires_in": (*NUMBER, type(None)),
}


async def _create_user(simulation: Simulation, request: web.Request) -> Any:
    fields = await read_fields(request, {"login": str, "name": TEXT_OR_NULL}, required=("login",))
    user = simulation.world.new_user(fields["login"], name=fields.get("name"))
    return {"id": user.id, "login": user.login}


async def _rename_user(simulation: Simulation, request: web.Request) -> Any:
    user = find_account(simulation.world, request.match_info["login"])
    fields = await read_fields(request, {"login": str}, required=("login",))
    if not isinstance(user, User):
        raise ControlError(400, f"{user.login} is an organisation")
    simulation.world.rename_account(user, fields["login"])
    return {"id": user.id, "login": user.login}


async def _create_organization(simulation: Simulation, request: web.Request) -> Any:
    fields = await read_fields(request, {"login": str, **_ORGANIZATION}, required=("login",))
    members = by_user_id(simulation.world, fields.pop("members", {}))
    org = simulation.world.new_organization(fields.pop("login"), members)
    assign(org, fields)
    return {"id": org.id, "login": org.login}


async def _edit_organization(simulation: Simulation, request: web.Request) -> Any:
    """`members` is merged: a role of null removes the member. `login` renames the organisation."""
    org = find_organization(simulation.world, request)
    fields = await read_fields(request, {"login": str, **_ORGANIZATION})
    if "login" in fields:
        simulation.world.rename_account(org, fields.pop("login"))
    for user_id, role in by_user_id(simulation.world, fields.pop("members", {})).items():
        if role is None:
            org.members.pop(user_id, None)
        else:
            org.members[user_id] = role
    assign(org, fields)
    return {"id": org.id, "login": org.login}


async def _create_token(simulation: Simulation, request: web.Request) -> Any:
    known = {"login": str, "kind": str, "resource_owner": str, **_TOKEN}
    fields = await read_fields(request, known, required=("login",))
    world = simulation.world
    user = find_account(world, fields.pop("login"))
    if not isinstance(user, User):
        raise ControlError(400, f"{user.login} is an organisation")
    kind = fields.pop("kind", "classic")
    if kind not in ("classic", "oauth", "fine-grained"):
        raise ControlError(400, f"no such kind of token: {kind}")
    resource_owner = find_account(world, fields.pop("resource_owner", user.login))
    token = world.new_token(user, kind)
    if kind == "fine-grained":
        token.resource_owner_id = resource_owner.id
    _apply(simulation, token, fields)
    return token_view(world, token) | {"token": token.value}


async def _edit_token(simulation: Simulation, request: web.Request) -> Any:
    token = simulation.world.tokens.get(int(request.match_info["token_id"]))
    if token is None:
        raise ControlError(404, "no such token")
    _apply(simulation, token, await read_fields(request, _TOKEN))
    return token_view(simulation.world, token)


def _apply(simulation: Simulation, token: Token, fields: dict[str, Any]) -> None:
    if "expires_in" in fields:
        seconds = fields.pop("expires_in")
        token.expires_at = None if seconds is None else simulation.clock() + seconds
    if "hidden_orgs" in fields:
        token.hidden_orgs = [find_account(simulation.world, login).id for login in fields.pop("hidden_orgs")]
    if fields.pop("revoked", False):
        simulation.world.revoke(token)
    if "sso_orgs" in fields:
        token.sso_orgs = [find_account(simulation.world, login).id for login in fields.pop("sso_orgs")]
    assign(token, fields)


def token_view(world: World, token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "login": world.user(token.user_id).login,
        "kind": token.kind,
        "scopes": token.scopes,
        "permissions": token.permissions,
        "revoked": token.revoked,
        "expires_at": token.expires_at,
    }


ROUTES: tuple[Route, ...] = (
    ("POST", "/users", _create_user),
    ("PATCH", "/users/{login}", _rename_user),
    ("POST", "/orgs", _create_organization),
    ("PATCH", "/orgs/{login}", _edit_organization),
    ("POST", "/tokens", _create_token),
    ("PATCH", r"/tokens/{token_id:\d+}", _edit_token),
)
