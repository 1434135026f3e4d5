"""What every area of the control API needs: reading a request's fields, finding what it names, refusing it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from devstack.githubsim.records import Account, Installation, Organization, Repository, Token
from devstack.githubsim.simulation import Simulation
from devstack.githubsim.world import World

Kinds = Mapping[str, type | tuple[type, ...]]
"""The fields that a body may have, and their types."""

Handler = Callable[[Simulation, web.Request], Awaitable[Any]]
"""Answers what becomes the JSON of the response."""

Route = tuple[str, str, Handler]
"""Method, path below the control API's prefix, and who answers it."""

NUMBER = (int, float)
TEXT_OR_NULL = (str, type(None))


class ControlError(Exception):
    """A control request that makes no sense; answered with the status and the message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_object(request: web.Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise ControlError(400, f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise ControlError(400, "a JSON object is expected")
    return body


async def read_fields(request: web.Request, known: Kinds, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The request's object. Raises ControlError for a field that is unknown, missing or of the wrong type."""
    body = await read_object(request)
    for name in required:
        if name not in body:
            raise ControlError(400, f"{name} is missing")
    for name, value in body.items():
        if name not in known:
            raise ControlError(400, f"no such field: {name}")
        if not isinstance(value, known[name]):
            raise ControlError(400, f"{name} is of the wrong type")
    return body


def find_account(world: World, login: str) -> Account:
    account = world.account(login)
    if account is None:
        raise ControlError(404, f"no such account: {login}")
    return account


def find_organization(world: World, request: web.Request) -> Organization:
    account = find_account(world, request.match_info["login"])
    if not isinstance(account, Organization):
        raise ControlError(404, f"{account.login} is a user")
    return account


def find_repository(world: World, request: web.Request) -> Repository:
    owner, name = find_account(world, request.match_info["owner"]), request.match_info["name"]
    repository = world.find(owner, name)
    if repository is None:
        raise ControlError(404, f"no such repository: {owner.login}/{name}")
    return repository


def by_user_id(world: World, roles: Mapping[str, Any]) -> dict[int, Any]:
    return {find_account(world, login).id: role for login, role in roles.items()}


def assign(target: Organization | Token | Installation | Repository, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        setattr(target, name, value)
