"""What the control API does to GitHub Apps, their installations, and OAuth apps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from devstack.githubsim import oauth
from devstack.githubsim.control_request import (
    NUMBER,
    TEXT_OR_NULL,
    ControlError,
    Kinds,
    Route,
    assign,
    find_account,
    read_fields,
)
from devstack.githubsim.records import Installation, OAuthApp, User
from devstack.githubsim.simulation import Simulation
from devstack.githubsim.world import World

_INSTALLATION: Kinds = {"permissions": dict, "suspended": bool, "token_lifetime": NUMBER}


async def _create_app(simulation: Simulation, request: web.Request) -> Any:
    """`public_key`, PEM, is what the App's JWTs are verified with; its private half stays with the client."""
    fields = await read_fields(request, {"slug": str, "public_key": str}, required=("slug", "public_key"))
    app = simulation.world.new_app(fields["slug"], fields["public_key"])
    return {"id": app.id}


async def _install_app(simulation: Simulation, request: web.Request) -> Any:
    world = simulation.world
    app = world.apps.get(int(request.match_info["app_id"]))
    if app is None:
        raise ControlError(404, "no such App")
    fields = await read_fields(request, {"account": str, **_INSTALLATION}, required=("account",))
    installation = world.install(app, find_account(world, fields.pop("account")), {})
    _apply(simulation, installation, fields)
    return {"id": installation.id}


async def _edit_installation(simulation: Simulation, request: web.Request) -> Any:
    fields = await read_fields(request, _INSTALLATION)
    _apply(simulation, _installation(simulation.world, request), fields)


def _apply(simulation: Simulation, installation: Installation, fields: dict[str, Any]) -> None:
    if "suspended" in fields:
        installation.suspended_at = simulation.clock() if fields.pop("suspended") else None
    assign(installation, fields)


async def _uninstall_app(simulation: Simulation, request: web.Request) -> Any:
    simulation.world.uninstall(_installation(simulation.world, request))


async def _revoke_installation_tokens(simulation: Simulation, request: web.Request) -> Any:
    """Returns how many of its tokens were still good."""
    installation, now = _installation(simulation.world, request), simulation.clock()
    tokens = [t for t in simulation.world.tokens.values() if t.installation_id == installation.id and not t.revoked]
    for token in tokens:
        token.revoked = True
    return {"revoked": sum(token.expires_at is None or now < token.expires_at for token in tokens)}


def _installation(world: World, request: web.Request) -> Installation:
    installation = world.installations.get(int(request.match_info["installation_id"]))
    if installation is None:
        raise ControlError(404, "no such installation")
    return installation


async def _create_oauth_app(simulation: Simulation, request: web.Request) -> Any:
    kinds: Kinds = {"callback_url": str, "approve_as": TEXT_OR_NULL, "asks": bool}
    fields = await read_fields(request, kinds, required=("callback_url",))
    app = oauth.register(simulation.world, fields["callback_url"])
    app.asks = fields.get("asks", False)
    _approve_as(simulation.world, app, fields)
    return {"client_id": app.client_id, "client_secret": app.client_secret}


async def _edit_oauth_app(simulation: Simulation, request: web.Request) -> Any:
    app = simulation.world.oauth_apps.get(request.match_info["client_id"])
    if app is None:
        raise ControlError(404, "no such OAuth app")
    _approve_as(simulation.world, app, await read_fields(request, {"approve_as": TEXT_OR_NULL}))


def _approve_as(world: World, app: OAuthApp, fields: Mapping[str, Any]) -> None:
    login = fields.get("approve_as", app.approve_as)
    if login is not None and not isinstance(find_account(world, login), User):
        raise ControlError(400, f"{login} is an organisation")
    app.approve_as = login


ROUTES: tuple[Route, ...] = (
    ("POST", "/apps", _create_app),
    ("POST", r"/apps/{app_id:\d+}/installations", _install_app),
    ("PATCH", r"/installations/{installation_id:\d+}", _edit_installation),
    ("DELETE", r"/installations/{installation_id:\d+}", _uninstall_app),
    ("DELETE", r"/installations/{installation_id:\d+}/tokens", _revoke_installation_tokens),
    ("POST", "/oauth-apps", _create_oauth_app),
    ("PATCH", "/oauth-apps/{client_id}", _edit_oauth_app),
)
