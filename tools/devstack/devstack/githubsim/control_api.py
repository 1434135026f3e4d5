"""The control API under `/_sim`: set up the world, act as a person would, break things, read the journal.

It takes and gives JSON, asks for no credential and is not recorded in the journal. `SimControl` is its
client and documents the fields.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from devstack.githubsim import control_access, oauth
from devstack.githubsim.delivery import JSON
from devstack.githubsim.faults import FAULT_ACTIONS, Fault
from devstack.githubsim.names import InvalidText, repository_name
from devstack.githubsim.simulation import Simulation
from devstack.githubsim.world import (
    TOGGLES,
    Account,
    Installation,
    KeyTaken,
    NameTaken,
    OAuthApp,
    Organization,
    Repository,
    Token,
    User,
    World,
)

Kinds = Mapping[str, type | tuple[type, ...]]
Handler = Callable[[Simulation, web.Request], Awaitable[Any]]

PREFIX = "/_sim"

_NUMBER = (int, float)
_TEXT_OR_NULL = (str, type(None))
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
_TEAM: Kinds = {"members": list, "repositories": dict}
_TOKEN: Kinds = {
    "scopes": list,
    "permissions": dict,
    "hidden_orgs": list,
    "sso_orgs": list,
    "revoked": bool,
    "expires_in": (*_NUMBER, type(None)),
}
_REPOSITORY: Kinds = {
    "description": _TEXT_OR_NULL,
    "homepage": _TEXT_OR_NULL,
    "visibility": str,
    "default_branch": str,
    "archived": bool,
    "branches": list,
    "grants": dict,
    "created_at": _NUMBER,
    **dict.fromkeys(TOGGLES, bool),
}
_INSTALLATION: Kinds = {"permissions": dict, "suspended": bool, "token_lifetime": _NUMBER}
_FAULT: Kinds = {
    "action": str,
    "method": str,
    "path": str,
    "login": _TEXT_OR_NULL,
    "count": (int, type(None)),
    "applied": bool,
    "status": int,
    "body": object,
    "headers": dict,
    "seconds": _NUMBER,
}


class ControlError(Exception):
    """A control request that makes no sense; answered with the status and the message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def add_routes(app: web.Application, simulation: Simulation) -> None:
    for method, path, handler in _ROUTES:
        app.router.add_route(method, PREFIX + path, partial(_respond, handler, simulation))


async def _respond(handler: Handler, simulation: Simulation, request: web.Request) -> web.Response:
    status = 200
    try:
        result = await handler(simulation, request)
    except ControlError as error:
        status, result = error.status, {"message": str(error)}
    except LookupError as error:
        status, result = 404, {"message": str(error)}
    except KeyTaken:
        status, result = 409, {"message": "the key is in use"}
    except NameTaken as error:
        status, result = 409, {"message": f"{error} is taken"}
    except InvalidText as error:
        status, result = 400, {"message": str(error)}
    body = orjson.dumps(result, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(status=status, body=body, headers={"Content-Type": JSON})


async def _create_user(simulation: Simulation, request: web.Request) -> Any:
    fields = await _fields(request, {"login": str, "name": _TEXT_OR_NULL}, required=("login",))
    user = simulation.world.new_user(fields["login"], name=fields.get("name"))
    return {"id": user.id, "login": user.login}


async def _create_organization(simulation: Simulation, request: web.Request) -> Any:
    fields = await _fields(request, {"login": str, **_ORGANIZATION}, required=("login",))
    members = _by_user_id(simulation.world, fields.pop("members", {}))
    org = simulation.world.new_organization(fields.pop("login"), members)
    _assign(org, fields)
    return {"id": org.id, "login": org.login}


async def _edit_organization(simulation: Simulation, request: web.Request) -> Any:
    """`members` is merged: a role of null removes the member."""
    org = _account(simulation.world, request.match_info["login"])
    if not isinstance(org, Organization):
        raise ControlError(404, f"{org.login} is a user")
    fields = await _fields(request, _ORGANIZATION)
    for user_id, role in _by_user_id(simulation.world, fields.pop("members", {})).items():
        if role is None:
            org.members.pop(user_id, None)
        else:
            org.members[user_id] = role
    _assign(org, fields)
    return {"id": org.id, "login": org.login}


async def _set_team(simulation: Simulation, request: web.Request) -> Any:
    world = simulation.world
    org = _account(world, request.match_info["login"])
    if not isinstance(org, Organization):
        raise ControlError(404, f"{org.login} is a user")
    control_access.set_team(world, org, request.match_info["team"], await _fields(request, _TEAM))


async def _all_keys(simulation: Simulation, request: web.Request) -> Any:
    return control_access.all_keys(simulation.world)


def _on_repository(act: control_access.Act, known: Kinds, required: tuple[str, ...]) -> Handler:
    async def handle(simulation: Simulation, request: web.Request) -> Any:
        fields = await _fields(request, known, required) if known else {}
        return act(simulation.world, _repository(simulation.world, request), request.match_info, fields)

    return handle


async def _create_token(simulation: Simulation, request: web.Request) -> Any:
    known = {"login": str, "kind": str, "resource_owner": str, **_TOKEN}
    fields = await _fields(request, known, required=("login",))
    world = simulation.world
    user = _account(world, fields.pop("login"))
    if not isinstance(user, User):
        raise ControlError(400, f"{user.login} is an organisation")
    kind = fields.pop("kind", "classic")
    if kind not in ("classic", "oauth", "fine-grained"):
        raise ControlError(400, f"no such kind of token: {kind}")
    resource_owner = _account(world, fields.pop("resource_owner", user.login))
    token = world.new_token(user, kind)
    if kind == "fine-grained":
        token.resource_owner_id = resource_owner.id
    _edit(simulation, token, fields)
    return _token_view(world, token) | {"token": token.value}


async def _edit_token(simulation: Simulation, request: web.Request) -> Any:
    token = simulation.world.tokens.get(int(request.match_info["token_id"]))
    if token is None:
        raise ControlError(404, "no such token")
    _edit(simulation, token, await _fields(request, _TOKEN))
    return _token_view(simulation.world, token)


def _edit(simulation: Simulation, token: Token, fields: dict[str, Any]) -> None:
    if "expires_in" in fields:
        seconds = fields.pop("expires_in")
        token.expires_at = None if seconds is None else simulation.clock() + seconds
    if "hidden_orgs" in fields:
        token.hidden_orgs = [_account(simulation.world, login).id for login in fields.pop("hidden_orgs")]
    if fields.pop("revoked", False):
        simulation.world.revoke(token)
    if "sso_orgs" in fields:
        token.sso_orgs = [_account(simulation.world, login).id for login in fields.pop("sso_orgs")]
    _assign(token, fields)


async def _create_app(simulation: Simulation, request: web.Request) -> Any:
    """`public_key`, PEM, is what the App's JWTs are verified with; its private half stays with the client."""
    fields = await _fields(request, {"slug": str, "public_key": str}, required=("slug", "public_key"))
    app = simulation.world.new_app(fields["slug"], fields["public_key"])
    return {"id": app.id}


async def _install_app(simulation: Simulation, request: web.Request) -> Any:
    world = simulation.world
    app = world.apps.get(int(request.match_info["app_id"]))
    if app is None:
        raise ControlError(404, "no such App")
    fields = await _fields(request, {"account": str, **_INSTALLATION}, required=("account",))
    installation = world.install(app, _account(world, fields.pop("account")), {})
    _edit_fields(simulation, installation, fields)
    return {"id": installation.id}


async def _edit_installation(simulation: Simulation, request: web.Request) -> Any:
    fields = await _fields(request, _INSTALLATION)
    _edit_fields(simulation, _installation(simulation.world, request), fields)


def _edit_fields(simulation: Simulation, installation: Installation, fields: dict[str, Any]) -> None:
    if "suspended" in fields:
        installation.suspended_at = simulation.clock() if fields.pop("suspended") else None
    _assign(installation, fields)


async def _uninstall_app(simulation: Simulation, request: web.Request) -> Any:
    simulation.world.uninstall(_installation(simulation.world, request))


async def _revoke_installation_tokens(simulation: Simulation, request: web.Request) -> Any:
    """Returns how many of its tokens were still good."""
    installation, now = _installation(simulation.world, request), simulation.clock()
    tokens = [t for t in simulation.world.tokens.values() if t.installation_id == installation.id and not t.revoked]
    for token in tokens:
        token.revoked = True
    return {"revoked": sum(token.expires_at is None or now < token.expires_at for token in tokens)}


async def _create_oauth_app(simulation: Simulation, request: web.Request) -> Any:
    fields = await _fields(request, {"callback_url": str, "approve_as": _TEXT_OR_NULL}, required=("callback_url",))
    app = oauth.register(simulation.world, fields["callback_url"])
    _approve_as(simulation.world, app, fields)
    return {"client_id": app.client_id, "client_secret": app.client_secret}


async def _edit_oauth_app(simulation: Simulation, request: web.Request) -> Any:
    app = simulation.world.oauth_apps.get(request.match_info["client_id"])
    if app is None:
        raise ControlError(404, "no such OAuth app")
    _approve_as(simulation.world, app, await _fields(request, {"approve_as": _TEXT_OR_NULL}))


def _approve_as(world: World, app: OAuthApp, fields: Mapping[str, Any]) -> None:
    login = fields.get("approve_as", app.approve_as)
    if login is not None and not isinstance(_account(world, login), User):
        raise ControlError(400, f"{login} is an organisation")
    app.approve_as = login


async def _create_repository(simulation: Simulation, request: web.Request) -> Any:
    fields = await _fields(request, {"owner": str, "name": str, **_REPOSITORY}, required=("owner", "name"))
    world = simulation.world
    owner, name = _account(world, fields.pop("owner")), repository_name(fields.pop("name"))
    repository = world.new_repository(owner, name, fields.pop("visibility", "private"))
    _apply(world, repository, fields)
    return _repository_view(world, repository)


async def _edit_repository(simulation: Simulation, request: web.Request) -> Any:
    """`owner` and `name` transfer and rename; `branches` are added; a grant of null is withdrawn."""
    world, repository = simulation.world, _repository(simulation.world, request)
    fields = await _fields(request, {"owner": str, "name": str, **_REPOSITORY})
    owner = _account(world, fields.pop("owner")) if "owner" in fields else None
    name = repository_name(fields.pop("name")) if "name" in fields else None
    if owner or name:
        world.move(repository, owner=owner, name=name)
    _apply(world, repository, fields)
    repository.updated_at = simulation.clock()
    return _repository_view(world, repository)


def _apply(world: World, repository: Repository, fields: dict[str, Any]) -> None:
    for branch in fields.pop("branches", []):
        world.push(repository, branch)
    for user_id, role in _by_user_id(world, fields.pop("grants", {})).items():
        if role is None:
            repository.grants.pop(user_id, None)
        else:
            repository.grants[user_id] = role
    repository.toggles |= {name: fields.pop(name) for name in TOGGLES if name in fields}
    _assign(repository, fields)


async def _get_repository(simulation: Simulation, request: web.Request) -> Any:
    return _repository_view(simulation.world, _repository(simulation.world, request))


async def _delete_repository(simulation: Simulation, request: web.Request) -> Any:
    simulation.world.delete(_repository(simulation.world, request))


async def _state(simulation: Simulation, request: web.Request) -> Any:
    """Everything in the world but the tokens' values."""
    world = simulation.world
    return {
        "users": [{"id": a.id, "login": a.login} for a in world.accounts.values() if isinstance(a, User)],
        "organizations": [
            {"id": a.id, "login": a.login, "members": {world.user(key).login: role for key, role in a.members.items()}}
            for a in world.accounts.values()
            if isinstance(a, Organization)
        ],
        "tokens": [_token_view(world, token) for token in world.tokens.values()],
        "repositories": [_repository_view(world, repository) for repository in world.repositories.values()],
    }


async def _read_journal(simulation: Simulation, request: web.Request) -> Any:
    journal = simulation.journal
    return {
        "total": journal.total,
        "unknown_credentials": journal.unknown_credentials,
        "max_in_flight": journal.max_in_flight,
        "max_in_flight_by_login": journal.max_in_flight_by_login,
        "violations": simulation.secondary.violations(),
        "entries": [asdict(entry) for entry in journal.entries],
    }


async def _clear_journal(simulation: Simulation, request: web.Request) -> Any:
    simulation.journal.clear()
    simulation.secondary.clear_violations()


async def _read_switches(simulation: Simulation, request: web.Request) -> Any:
    return asdict(simulation.switches.everybody)


async def _set_switches(simulation: Simulation, request: web.Request) -> Any:
    changes = await _object(request)
    token_id = changes.pop("token_id", None)
    try:
        simulation.switches.set(changes, token_id)
    except KeyError as error:
        raise ControlError(400, f"no such switch: {error.args[0]}") from None
    return asdict(simulation.switches.effective(token_id))


async def _clear_limits(simulation: Simulation, request: web.Request) -> Any:
    simulation.quota.clear()
    simulation.secondary.clear()


async def _add_fault(simulation: Simulation, request: web.Request) -> Any:
    fields = await _fields(request, _FAULT, required=("action",))
    if fields["action"] not in FAULT_ACTIONS:
        raise ControlError(400, f"no such action: {fields['action']}; there are {', '.join(FAULT_ACTIONS)}")
    simulation.faults.rules.append(Fault(**fields))


async def _read_faults(simulation: Simulation, request: web.Request) -> Any:
    return [asdict(rule) for rule in simulation.faults.rules]


async def _clear_faults(simulation: Simulation, request: web.Request) -> Any:
    simulation.faults.rules.clear()


async def _object(request: web.Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise ControlError(400, f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ControlError(400, "a JSON object is expected")
    return body


async def _fields(request: web.Request, known: Kinds, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The request's object. Raises ControlError for a field that is unknown, missing or of the wrong type."""
    body = await _object(request)
    for name in required:
        if name not in body:
            raise ControlError(400, f"{name} is missing")
    for name, value in body.items():
        if name not in known:
            raise ControlError(400, f"no such field: {name}")
        if not isinstance(value, known[name]):
            raise ControlError(400, f"{name} is of the wrong type")
    return body


def _installation(world: World, request: web.Request) -> Installation:
    installation = world.installations.get(int(request.match_info["installation_id"]))
    if installation is None:
        raise ControlError(404, "no such installation")
    return installation


def _assign(target: Organization | Token | Installation | Repository, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        setattr(target, name, value)


def _account(world: World, login: str) -> Account:
    account = world.account(login)
    if account is None:
        raise ControlError(404, f"no such account: {login}")
    return account


def _repository(world: World, request: web.Request) -> Repository:
    owner, name = _account(world, request.match_info["owner"]), request.match_info["name"]
    repository = world.find(owner, name)
    if repository is None:
        raise ControlError(404, f"no such repository: {owner.login}/{name}")
    return repository


def _by_user_id(world: World, roles: Mapping[str, Any]) -> dict[int, Any]:
    return {_account(world, login).id: role for login, role in roles.items()}


def _token_view(world: World, token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "login": world.user(token.user_id).login,
        "kind": token.kind,
        "scopes": token.scopes,
        "permissions": token.permissions,
        "revoked": token.revoked,
        "expires_at": token.expires_at,
    }


def _repository_view(world: World, repository: Repository) -> dict[str, Any]:
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


_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", "/users", _create_user),
    ("POST", "/orgs", _create_organization),
    ("PATCH", "/orgs/{login}", _edit_organization),
    ("PUT", "/orgs/{login}/teams/{team}", _set_team),
    ("GET", "/keys", _all_keys),
    ("POST", "/tokens", _create_token),
    ("PATCH", r"/tokens/{token_id:\d+}", _edit_token),
    ("POST", "/apps", _create_app),
    ("POST", r"/apps/{app_id:\d+}/installations", _install_app),
    ("PATCH", r"/installations/{installation_id:\d+}", _edit_installation),
    ("DELETE", r"/installations/{installation_id:\d+}", _uninstall_app),
    ("DELETE", r"/installations/{installation_id:\d+}/tokens", _revoke_installation_tokens),
    ("POST", "/oauth-apps", _create_oauth_app),
    ("PATCH", "/oauth-apps/{client_id}", _edit_oauth_app),
    ("POST", "/repos", _create_repository),
    ("GET", "/repos/{owner}/{name}", _get_repository),
    ("PATCH", "/repos/{owner}/{name}", _edit_repository),
    ("DELETE", "/repos/{owner}/{name}", _delete_repository),
    *(
        (method, "/repos/{owner}/{name}" + tail, _on_repository(act, known, required))
        for method, tail, act, known, required in control_access.ROUTES
    ),
    ("GET", "/state", _state),
    ("GET", "/journal", _read_journal),
    ("DELETE", "/journal", _clear_journal),
    ("GET", "/switches", _read_switches),
    ("PATCH", "/switches", _set_switches),
    ("DELETE", "/limits", _clear_limits),
    ("GET", "/faults", _read_faults),
    ("POST", "/faults", _add_fault),
    ("DELETE", "/faults", _clear_faults),
)
