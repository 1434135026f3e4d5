"""``make up``: the stack stays up until it is told to stop, with all that is needed to try things on it."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import yaml

from devstack import connect_with_github
from devstack.demo.screen import Screen
from devstack.demo.session import Session, open_session, own_folder
from devstack.demo.workload import Team
from devstack.kubeconfig import kubeconfig, write_private
from devstack.mcp_client import client_configuration
from devstack.settings import Settings
from devstack.tenant import Tenant


async def up(settings: Settings, screen: Screen) -> None:
    with own_folder("up") as folder:
        async with open_session(folder, settings, screen, graphql=True) as session:
            for team, tenant in session.teams.items():
                _write_files(session, team, tenant, folder)
            screen.plain(_instructions(session, folder))
            await session.stack.services.wait()
            session.stack.services.check_alive()


def _write_files(session: Session, team: Team, tenant: Tenant, folder: Path) -> None:
    server = f"{session.stack.hub.url}/clusters/{tenant.cluster}"
    write_private(folder / f"{team.workspace}.kubeconfig", kubeconfig(server, tenant.token))
    write_private(folder / f"{team.workspace}.yaml", yaml.safe_dump_all(team.manifests(), sort_keys=False))
    write_private(folder / f"{team.workspace}.mcp.json", _assistant(session, tenant))


def _assistant(session: Session, tenant: Tenant) -> str:
    return client_configuration(session.stack.hub.mcp_url(tenant.cluster, plain=True), tenant.mcp_token)


def _instructions(session: Session, folder: Path) -> str:
    stack = session.stack
    here = Path.cwd()
    short = folder.relative_to(here) if folder.is_relative_to(here) else folder
    team, tenant = next(iter(session.teams.items()))
    config, server = f"{short}/{team.workspace}.kubeconfig", f"{stack.hub.url}/clusters/{tenant.cluster}"
    collection = f"{server}/apis/code.kedge.faros.sh/v1alpha1/repositories"
    start = connect_with_github.start_url(stack.oauth)
    connect = (
        []
        if start is None
        else [f"  sign-in page       {start}?state=try   (what the popup of Connect with GitHub opens)"]
    )
    simulator = [] if stack.simulator is None else [f"  GitHub simulator   {stack.simulator.url}"]
    workspaces = [
        f"  workspace {team.workspace}   {stack.hub.url}/clusters/{tenant.cluster}"
        for team, tenant in session.teams.items()
    ]
    # The token of a ServiceAccount, which a tenant has on another kcp, logs nobody in.
    page = (
        [
            f"Open {stack.hub.url}/ui/ in a browser, accept the certificate, and log in with the token of a user:",
            "",
            *(f"  {team.workspace}   {tenant.token}" for team, tenant in session.teams.items()),
            "",
        ]
        if stack.kcp.knows_static_users
        else []
    )
    return "\n".join(
        [
            "",
            "The stack is up.",
            "",
            f"  development hub    {stack.hub.url}   (its certificate is self-signed)",
            f"  provider           {stack.provider.url}",
            f"  nats-server        {stack.nats.address}",
            *simulator,
            *connect,
            *workspaces,
            f"  kcp administrator  {stack.kcp.kubeconfig}",
            f"  logs               {short}/*/*.log",
            "",
            "Declare a Secret, a Connection and Repositories, and watch them become Ready:",
            "",
            f"  kubectl --kubeconfig {config} apply -f {short}/{team.workspace}.yaml",
            f"  kubectl --kubeconfig {config} get repositories --watch",
            f"  kubectl --kubeconfig {config} delete repository {next(iter(team.repositories))}",
            "",
            "The same without kubectl:",
            "",
            f"  TOKEN=$(sed -n 's/.*token: //p' {config})",
            f'  curl -sk -H "Authorization: Bearer $TOKEN" {collection}',
            "",
            *page,
            f"Give an assistant the tools of workspace {team.workspace}: paste this into its MCP configuration. It is also in",
            f"{short}/{team.workspace}.mcp.json.",
            "",
            indent(_assistant(session, tenant), "  "),
            "",
            "Where programs ask, with the token of a user:",
            "",
            f"  GraphQL            {stack.hub.url}/graphql/{tenant.cluster}",
            f"  MCP, all tools     {stack.hub.mcp_url(tenant.cluster)}",
            f"  MCP, this provider {stack.hub.url}/services/providers/code/mcp",
            f"                     X-Kedge-Org: {tenant.organization}",
            f"                     X-Kedge-Workspace: {tenant.workspace}",
            "",
            "Stop it with Ctrl-C here, or with `make down` in another terminal.",
            "",
        ]
    )
