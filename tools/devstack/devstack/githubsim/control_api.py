"""The control API under `/_sim`: set up the world, act as a person would, break things, read the journal.

It takes and gives JSON, asks for no credential and is not recorded in the journal. `SimControl` is its
client and documents the fields.
"""

from __future__ import annotations

from functools import partial

import orjson
from aiohttp import web

from devstack.githubsim import (
    control_access,
    control_accounts,
    control_apps,
    control_git,
    control_packages,
    control_repositories,
    control_run,
)
from devstack.githubsim.control_request import ControlError, Handler
from devstack.githubsim.delivery import JSON
from devstack.githubsim.names import InvalidText
from devstack.githubsim.simulation import Simulation
from devstack.githubsim.world import KeyTaken, NameTaken

PREFIX = "/_sim"

_AREAS = (
    control_accounts,
    control_apps,
    control_repositories,
    control_access,
    control_packages,
    control_git,
    control_run,
)


def add_routes(app: web.Application, simulation: Simulation) -> None:
    for area in _AREAS:
        for method, path, handler in area.ROUTES:
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
