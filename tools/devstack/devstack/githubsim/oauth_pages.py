"""OAuth's web flow over HTTP. It belongs to the host's web pages and not to its API: no quota, no journal."""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urlencode

import orjson
from aiohttp import web

from devstack.githubsim import oauth
from devstack.githubsim.delivery import JSON
from devstack.githubsim.simulation import Simulation


def add_routes(app: web.Application, simulation: Simulation) -> None:
    app.router.add_get("/login/oauth/authorize", partial(_authorize, simulation), allow_head=False)
    app.router.add_post("/login/oauth/access_token", partial(_access_token, simulation))


async def _authorize(simulation: Simulation, request: web.Request) -> web.Response:
    address = oauth.authorize(simulation.world, request.query)
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
