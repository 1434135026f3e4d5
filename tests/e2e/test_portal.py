"""The portal in a real browser, on the development hub's page: kcp, the GraphQL gateway, NATS, all services and the simulator.

The tests themselves are Playwright's, in ``portal/e2e``. They are one test here, because they share a browser and workspaces.
``portal/e2e/bed.ts`` says what they are told of the stack.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from devstack.chromium import find_chromium
from devstack.devhub import DevHub
from devstack.githubsim.control_answers import IssuedOAuthApp
from devstack.graphql import GraphqlGateway
from devstack.paths import REPOSITORY
from devstack.ports import LOOPBACK, free_ports
from devstack.processes import Process
from devstack.provider import ProviderInstallation
from devstack.scenario import Scenario, repository, unique
from devstack.simulator import SimulatorProcess
from devstack.static_users import StaticUser
from devstack.tenant import Tenant
from gateway.assets import BUNDLED

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

PORTAL = REPOSITORY / "portal"
SPECS = os.environ.get("CODE_PORTAL_SPECS", "").split()
"""The names of some of Playwright's files, while one works on them. Empty: all."""

CHROMIUM = os.environ.get("CODE_CHROMIUM") or str(find_chromium() or "")
TIMEOUT = 1740.0
"""Seconds for all of them: about two minutes on two idle processors, ten times as long on busy ones."""
WORKSPACES = ("journey", "views", "trouble", "many")
PAUSED = "code.kedge.faros.sh/paused"
MANY = 500
MANY_AT_ONCE = 16
SCOPES = ["repo", "delete_repo", "user", "read:packages"]
# What a member of a workspace may do who is to look after its connections and see nothing else.
SOME_RIGHTS = ({"apiGroups": ["code.kedge.faros.sh"], "resources": ["connections"], "verbs": ["get", "list", "watch"]},)


def _missing() -> str | None:
    if not shutil.which("npx") or not (PORTAL / "node_modules" / "@playwright").is_dir():
        return "needs npm and what `make portal` installs"
    if not (BUNDLED / "main.js").is_file():
        return "needs the bundle: run `make portal`"
    return None if CHROMIUM else "needs Chromium (Debian and Ubuntu: apt install chromium)"


needs_browser = pytest.mark.skipif(_missing() is not None, reason=f"the portal in a browser: {_missing()}")


@asynccontextmanager
async def _switch(gateway: GraphqlGateway) -> AsyncIterator[str]:
    """An address. POST to ``/kill`` ends the GraphQL gateway's process, POST to ``/start`` starts it again."""

    async def kill(_: web.Request) -> web.Response:
        await gateway.kill()
        return web.Response()

    async def start(_: web.Request) -> web.Response:
        await gateway.start()
        return web.Response()

    app = web.Application()
    app.add_routes([web.post("/kill", kill), web.post("/start", start)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        (port,) = free_ports(1)
        await web.TCPSite(runner, LOOPBACK, port).start()
        yield f"http://{LOOPBACK}:{port}"
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture
async def bed(
    devhub: DevHub,
    provider: ProviderInstallation,
    graphql_gateway: GraphqlGateway,
    services: Process,
    github_sim: SimulatorProcess,
    oauth_app: IssuedOAuthApp,
    scenario: Scenario,
    tmp_path: Path,
) -> AsyncIterator[Path]:
    """The file that says to the browser's tests what there is: workspaces of one user, and accounts on the host."""
    organization = unique("acme")
    first = await devhub.create_tenant(organization=organization, workspace=WORKSPACES[0])
    made = (devhub.create_tenant(organization=organization, workspace=name, user=first.user) for name in WORKSPACES[1:])
    tenants = dict(zip(WORKSPACES, (first, *await asyncio.gather(*made)), strict=True))
    await asyncio.gather(*(devhub.enable(tenant) for tenant in tenants.values()))
    if not SPECS or "many" in SPECS:
        await _make_many(tenants["many"])
    described: dict[str, Any] = {
        "hub": devhub.url,
        "simulator": github_sim.url,
        "member": _user(first.user),
        "reader": _user(await devhub.add_member(tenants["trouble"], SOME_RIGHTS)),
        "workspaces": {name: _workspace(organization, name, tenant) for name, tenant in tenants.items()},
        "accounts": {name: await _account(scenario, name) for name in WORKSPACES},
        "guests": [(await scenario.account(prefix)).login for prefix in ("rita", "ben")],
        "oauthApp": oauth_app.client_id,
    }
    file = tmp_path / "bed.json"
    async with _switch(graphql_gateway) as url:
        file.write_text(json.dumps(described | {"graphqlSwitch": url}))
        yield file
    for tenant in tenants.values():
        await devhub.delete_tenant(tenant)


def _user(user: StaticUser) -> dict[str, str]:
    return {"token": user.token, "email": user.email, "userId": user.name}


def _workspace(organization: str, name: str, tenant: Tenant) -> dict[str, str]:
    return {
        "label": f"{organization} / {name}",
        "cluster": tenant.cluster,
        "organization": tenant.organization,
        "uuid": tenant.workspace,
    }


async def _make_many(tenant: Tenant) -> None:
    """500 Repositories. Their Connection does not exist, so that the host is left alone. All but one are paused.

    Made here, many at once: through the GraphQL gateway, which makes one after the other, they took two minutes.
    """
    at_once = asyncio.Semaphore(MANY_AT_ONCE)

    async def make(number: int) -> None:
        manifest = repository(f"many-{number:03}", "nowhere")
        if number < MANY - 1:
            manifest["metadata"]["annotations"] = {PAUSED: "true"}
        async with at_once:
            await tenant.create(manifest)

    await asyncio.gather(*(make(number) for number in range(MANY)))


async def _account(scenario: Scenario, prefix: str) -> dict[str, str]:
    login = unique(prefix)
    await scenario.control.create_user(login)
    token = await scenario.control.create_token(login, scopes=SCOPES)
    return {"login": login, "token": token.value}


@needs_browser
async def test_in_a_browser(bed: Path) -> None:
    environment = {
        **os.environ,
        "CODE_PORTAL_BED": str(bed),
        "CODE_CHROMIUM": CHROMIUM,
        # The hub's certificate is self-signed.
        "NODE_TLS_REJECT_UNAUTHORIZED": "0",
        "NODE_NO_WARNINGS": "1",
    }
    process = await asyncio.create_subprocess_exec(
        *("npx", "--no-install", "playwright", "test", "--config", "e2e/playwright.config.ts"),
        *(f"{spec}.spec.ts" for spec in SPECS),
        cwd=PORTAL,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    # With `pytest -s` one sees how long each has taken.
    print(output.decode(errors="replace"))
    assert process.returncode == 0, output.decode(errors="replace")[-20_000:]


@pytest.mark.skipif(
    not (PORTAL / "node_modules" / "graphql").is_dir(), reason="needs npm and what `make portal` installs"
)
async def test_the_checked_in_schema_is_that_of_the_gateway(graphql: str, tenant: Tenant) -> None:
    """With ``CODE_WRITE_PORTAL_SCHEMA=1`` it writes the file instead."""
    tool = ["node", str(PORTAL / "tools" / "sdl.mjs")]
    query = await asyncio.to_thread(subprocess.check_output, [*tool, "--query"])
    headers = {"Authorization": f"Bearer {tenant.token}", "Content-Type": "application/json"}
    address = f"{graphql}{tenant.cluster}"
    async with asyncio.timeout(30), aiohttp.ClientSession(headers=headers) as session:
        while True:
            async with session.post(address, data=query, ssl=False) as answer:
                # The gateway builds a workspace's schema a moment after the provider was enabled there.
                if answer.status == 200:
                    introspection = await answer.read()
                    break
            await asyncio.sleep(0.2)
    made = await asyncio.to_thread(subprocess.run, tool, input=introspection, capture_output=True, check=True)
    file = PORTAL / "schema.graphql"
    if os.environ.get("CODE_WRITE_PORTAL_SCHEMA"):
        file.write_bytes(made.stdout)
    assert file.read_text() == made.stdout.decode(), (
        "portal/schema.graphql is stale: run this test with CODE_WRITE_PORTAL_SCHEMA=1, and `npm run gen` in portal/"
    )
