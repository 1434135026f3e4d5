"""OAuth's web flow over HTTP. It belongs to the host's web pages and not to its API: no quota, no journal."""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web

from devstack.githubsim import oauth
from devstack.githubsim.delivery import JSON
from devstack.githubsim.records import OAuthApp, User
from devstack.githubsim.simulation import Simulation

_MOST_USERS = 20
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><link rel="icon" href="data:,"><title>Simulated GitHub</title></head>
<body>
<h1>Authorize {client_id}</h1>
<p>It asks for: {scopes}</p>
<form method="post">
{buttons}
<button name="login" value="">Cancel</button>
</form>
</body>
</html>
"""
_BUTTON = '<button name="login" value="{login}">Authorize as {login}</button>'


def add_routes(app: web.Application, simulation: Simulation) -> None:
    app.router.add_get("/login/oauth/authorize", partial(_authorize, simulation), allow_head=False)
    app.router.add_post("/login/oauth/authorize", partial(_answer, simulation))
    app.router.add_post("/login/oauth/access_token", partial(_access_token, simulation))


async def _authorize(simulation: Simulation, request: web.Request) -> web.Response:
    app = simulation.world.oauth_apps.get(request.query.get("client_id", ""))
    if app is not None and app.asks and "login" not in request.query:
        return web.Response(text=_page(simulation, app, request.query.get("scope", "")), content_type="text/html")
    return _sent_back(simulation, request.query)


async def _answer(simulation: Simulation, request: web.Request) -> web.Response:
    """The buttons of the page come here, with the login of who agrees, or an empty one."""
    login = (await request.post()).get("login", "")
    return _sent_back(simulation, {**request.query, "login": login if isinstance(login, str) else ""})


def _page(simulation: Simulation, app: OAuthApp, scopes: str) -> str:
    users = [account.login for account in simulation.world.accounts.values() if isinstance(account, User)]
    return _PAGE.format(
        client_id=html.escape(app.client_id),
        scopes=html.escape(scopes or "nothing"),
        buttons="\n".join(_BUTTON.format(login=html.escape(login)) for login in users[:_MOST_USERS]),
    )


def _sent_back(simulation: Simulation, asked: Mapping[str, str]) -> web.Response:
    address = oauth.authorize(simulation.world, asked)
    if address is None:
        return web.Response(status=404, text="Not Found")
    return web.Response(status=302, headers={"Location": address})


async def _access_token(simulation: Simulation, request: web.Request) -> web.Response:
    """Takes a form or JSON, and answers with a form unless JSON is accepted."""
    try:
        fields = await _fields(request)
    except ValueError:
        return web.Response(status=400, text="Problems parsing the body")
    answer = oauth.exchange(simulation.world, {**request.query, **fields})
    if "application/json" in request.headers.get("Accept", ""):
        return web.Response(body=orjson.dumps(answer), headers={"Content-Type": JSON})
    return web.Response(
        body=urlencode(answer).encode(), headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    )


async def _fields(request: web.Request) -> dict[str, str]:
    """Raises ValueError for a body that is not what its type says."""
    if request.content_type == "application/json":
        body: Any = orjson.loads(await request.read())
        if not isinstance(body, dict):
            raise ValueError
    else:
        body = dict(await request.post())
    return {name: value for name, value in body.items() if isinstance(value, str)}
