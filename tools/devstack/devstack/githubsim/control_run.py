"""What the control API tells of a run and changes in it: state, journal, switches, limits, faults."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aiohttp import web

from devstack.githubsim.control_accounts import token_view
from devstack.githubsim.control_repositories import repository_view
from devstack.githubsim.control_request import (
    NUMBER,
    TEXT_OR_NULL,
    ControlError,
    Kinds,
    Route,
    read_fields,
    read_object,
)
from devstack.githubsim.faults import FAULT_ACTIONS, Fault
from devstack.githubsim.records import Organization, User
from devstack.githubsim.simulation import Simulation

_FAULT: Kinds = {
    "action": str,
    "method": str,
    "path": str,
    "login": TEXT_OR_NULL,
    "query": dict,
    "count": (int, type(None)),
    "applied": bool,
    "status": int,
    "body": object,
    "headers": dict,
    "seconds": NUMBER,
}


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
        "tokens": [token_view(world, token) for token in world.tokens.values()],
        "repositories": [repository_view(world, repository) for repository in world.repositories.values()],
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
    changes = await read_object(request)
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
    fields = await read_fields(request, _FAULT, required=("action",))
    if fields["action"] not in FAULT_ACTIONS:
        raise ControlError(400, f"no such action: {fields['action']}; there are {', '.join(FAULT_ACTIONS)}")
    simulation.faults.rules.append(Fault(**fields))


async def _read_faults(simulation: Simulation, request: web.Request) -> Any:
    return [asdict(rule) for rule in simulation.faults.rules]


async def _clear_faults(simulation: Simulation, request: web.Request) -> Any:
    simulation.faults.clear()


ROUTES: tuple[Route, ...] = (
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
