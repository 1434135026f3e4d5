"""``make demo``: teams declare repositories and access to them; the provider makes them true, keeps them true, and takes them
away again."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

from devstack.demo.conversation import converse
from devstack.demo.githost import GITHUB_API, GitHost
from devstack.demo.screen import Row, Screen
from devstack.demo.session import Session, open_session, own_folder
from devstack.demo.workload import COLLABORATOR, DEPLOY_KEY, Team
from devstack.errors import NotReady, StackError
from devstack.mcp_client import mcp_client
from devstack.resources import Manifest, condition, is_gone, is_ready, of_manifest
from devstack.settings import Settings
from devstack.stack import all_of
from devstack.tenant import Tenant

READY_TIMEOUT = 90.0
REPAIR_TIMEOUT = 90.0
DELETE_TIMEOUT = 60.0


async def show(settings: Settings, screen: Screen) -> None:
    with own_folder("demo") as folder:
        async with open_session(folder, settings, screen) as session:
            try:
                await steps(session, screen)
            except StackError:
                screen.say(f"the services' log ends with:\n{session.stack.services.tail(25)}")
                raise
            finally:
                if session.stack.simulator is None:
                    await _leave_nothing(session, _host(session), screen)
        screen.say(f"everything is stopped; logs and data are in {folder}")


async def steps(session: Session, screen: Screen) -> None:
    """All that is shown. Raises `StackError` if something does not go as it should."""
    host = _host(session)
    await _declare(session, screen)
    await _look_at_host(session, host, screen)
    await _share(session, screen)
    await _repair(session, host, screen)
    await _delete(session, host, screen)
    await _converse(session, screen)


def _host(session: Session) -> GitHost:
    simulator = session.stack.simulator
    return GitHost(session.stack.kcp.session, GITHUB_API if simulator is None else f"{simulator.url}/api/v3")


async def _declare(session: Session, screen: Screen) -> None:
    host = "GitHub" if session.stack.simulator is None else f"the simulator at {session.stack.simulator.url}"
    screen.say(f"each team applies a Secret, a Connection to {host}, its Repositories, and access to one")
    started = time.monotonic()
    applied = {team: team.manifests() for team in session.teams}
    await asyncio.gather(
        *(tenant.apply(manifest) for team, tenant in session.teams.items() for manifest in applied[team])
    )
    with screen.table():
        try:
            async with asyncio.timeout(READY_TIMEOUT):
                await all_of(
                    *(
                        _show_until_ready(team, tenant, manifest, screen)
                        for team, tenant in session.teams.items()
                        for manifest in applied[team]
                        if manifest["kind"] != "Secret"
                    )
                )
        except TimeoutError:
            raise NotReady(f"not everything was Ready within {READY_TIMEOUT:g} s") from None
    guests = any(team.guest for team in session.teams)
    but = ", but for an invitation that its user has yet to accept" if guests else ""
    screen.say(f"everything is Ready{but}, {time.monotonic() - started:.1f} s after it was applied")


async def _show_until_ready(team: Team, tenant: Tenant, manifest: Manifest, screen: Screen) -> None:
    name = manifest["metadata"]["name"]
    async with aclosing(tenant.follow(of_manifest(manifest).plural, name)) as states:
        async for state in states:
            screen.show(Row(team.workspace, manifest["kind"], name, state))
            if is_ready(state) or _invited(state):
                return


async def _look_at_host(session: Session, host: GitHost, screen: Screen) -> None:
    screen.say("on the host there are now, as the REST API tells it:")
    for team in session.teams:
        for name in team.repositories:
            found = await host.repository(team.account.token, team.account.owner, name)
            if found is None:
                raise StackError(f"{team.account.owner}/{name} is Ready but the host does not have it")
            screen.say(f"  {found['full_name']}  id {found['id']}  {found['visibility']}  {found['description']!r}")


def _invited(state: Manifest | None) -> bool:
    pending = condition(state, "InvitationPending") if state else None
    return pending is not None and pending["status"] == "True"


async def _share(session: Session, screen: Screen) -> None:
    """The deploy key's private half is in a Secret; the guest accepts, which nobody tells the provider."""
    for team, tenant in session.teams.items():
        key = await tenant.wait_for("deploykeys", DEPLOY_KEY, is_ready, READY_TIMEOUT)
        assert key is not None
        screen.say(
            f"team {team.workspace} finds the private key of deploy key {key['status']['keyID']} of {team.shared} in Secret "
            f"{key['status']['secretRef']['name']}"
        )
        if team.guest is None or session.stack.simulator is None:
            continue
        started = time.monotonic()
        await session.stack.simulator.control.accept_invitation(team.account.owner, team.shared, team.guest)
        screen.say(f"{team.guest} accepts the invitation to {team.account.owner}/{team.shared}")
        await tenant.wait_for("collaborators", COLLABORATOR, is_ready, READY_TIMEOUT)
        screen.say(f"Collaborator/{COLLABORATOR} is Ready ({time.monotonic() - started:.1f} s)")


async def _repair(session: Session, host: GitHost, screen: Screen) -> None:
    team = next(iter(session.teams))
    name, wanted = next(iter(team.repositories.items()))
    account = team.account
    changed = "Changed by hand on the host"
    await host.describe(account.token, account.owner, name, changed)
    screen.say(f"somebody changes the description of {account.owner}/{name} on the host to {changed!r}")
    started = time.monotonic()
    await host.wait_for_description(account.token, account.owner, name, wanted, REPAIR_TIMEOUT)
    screen.say(f"the provider has noticed and put back {wanted!r} ({time.monotonic() - started:.1f} s)")


async def _delete(session: Session, host: GitHost, screen: Screen) -> None:
    team, tenant = next(iter(session.teams.items()))
    name = list(team.repositories)[-1]
    account = team.account
    screen.say(f"team {team.workspace} deletes Repository/{name}, which the provider had created")
    started = time.monotonic()
    await tenant.delete("repositories", name)
    await tenant.wait_for("repositories", name, is_gone, DELETE_TIMEOUT)
    await host.wait_until_gone(account.token, account.owner, name, DELETE_TIMEOUT)
    screen.say(f"the object and {account.owner}/{name} on the host are gone ({time.monotonic() - started:.1f} s)")


async def _converse(session: Session, screen: Screen) -> None:
    """The same API for a language model, reached as an assistant reaches it: by the address and the token that the hub gives."""
    team, tenant = next(iter(session.teams.items()))
    url = session.stack.hub.mcp_url(tenant.cluster, plain=True)
    screen.say(f"an assistant of team {team.workspace} is connected to the hub's MCP server, {url}")
    async with mcp_client(url, tenant.mcp_token, prefix="code__") as client:
        await converse(client, team, screen)


async def _leave_nothing(session: Session, host: GitHost, screen: Screen) -> None:
    """On a real host nothing may stay behind, whatever went wrong before."""
    for team, tenant in session.teams.items():
        for name in (*team.repositories, team.conversed):
            try:
                await tenant.delete("repositories", name)
                await host.wait_until_gone(team.account.token, team.account.owner, name, DELETE_TIMEOUT)
            except StackError:
                screen.say(f"{team.account.owner}/{name} could not be deleted: please delete it on GitHub")
