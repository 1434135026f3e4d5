"""The portal in a real browser, on the development hub's page: kcp, the GraphQL gateway, NATS, all services and the simulator.

The tests themselves are Playwright's, in ``portal/e2e``. Each of its files is one test here. ``portal/e2e/bed.ts`` says what they
are told of the stack.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from devstack.chromium import find_chromium
from devstack.devhub import DevHub
from devstack.githubsim.control_answers import IssuedOAuthApp
from devstack.paths import REPOSITORY
from devstack.processes import Process
from devstack.provider import ProviderInstallation
from devstack.scenario import Scenario, unique
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant
from gateway.assets import BUNDLED

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PORTAL = REPOSITORY / "portal"
FULL = os.environ.get("CODE_PORTAL_TESTS") == "full" or "CODE_SCREENSHOTS" in os.environ
# Two minutes for 500 repositories, and one for all views in both themes and widths.
LONG = frozenset() if FULL else frozenset({"trouble", "views"})
SPECS = sorted({path.name.removesuffix(".spec.ts") for path in (PORTAL / "e2e").glob("*.spec.ts")} - LONG)
CHROMIUM = os.environ.get("CODE_CHROMIUM") or str(find_chromium() or "")
TIMEOUT = 840.0


def _missing() -> str | None:
    if not shutil.which("npx") or not (PORTAL / "node_modules" / "@playwright").is_dir():
        return "needs npm and what `make portal` installs"
    if not (BUNDLED / "main.js").is_file():
        return "needs the bundle: run `make portal`"
    return None if CHROMIUM else "needs Chromium (Debian and Ubuntu: apt install chromium)"


needs_browser = pytest.mark.skipif(_missing() is not None, reason=f"the portal in a browser: {_missing()}")


@pytest_asyncio.fixture
async def bed(
    devhub: DevHub,
    provider: ProviderInstallation,
    graphql: str,
    services: Process,
    github_sim: SimulatorProcess,
    oauth_app: IssuedOAuthApp,
    scenario: Scenario,
    tmp_path: Path,
) -> AsyncIterator[Path]:
    """The file that says to the browser's tests what there is: two workspaces of one user, and accounts on the host."""
    organization = unique("acme")
    first = await devhub.create_tenant(organization=organization, workspace="one")
    second = await devhub.create_tenant(organization=organization, workspace="two", user=first.user)
    await asyncio.gather(devhub.enable(first), devhub.enable(second))
    account = await scenario.account("acme")
    guests = [(await scenario.account(prefix)).login for prefix in ("rita", "ben")]
    file = tmp_path / "bed.json"
    file.write_text(
        json.dumps(
            {
                "hub": devhub.url,
                "simulator": github_sim.url,
                "token": first.token,
                "workspaces": [
                    {"label": f"{organization} / {name}", "cluster": tenant.cluster}
                    for name, tenant in (("one", first), ("two", second))
                ],
                "account": {"login": account.login, "token": account.token.value},
                "guests": guests,
                "oauthApp": oauth_app.client_id,
            }
        )
    )
    yield file
    for tenant in (first, second):
        await devhub.delete_tenant(tenant)


@needs_browser
@pytest.mark.parametrize("spec", SPECS)
async def test_in_a_browser(spec: str, bed: Path) -> None:
    environment = {
        **os.environ,
        "CODE_PORTAL_BED": str(bed),
        "CODE_CHROMIUM": CHROMIUM,
        # The hub's certificate is self-signed.
        "NODE_TLS_REJECT_UNAUTHORIZED": "0",
        "NODE_NO_WARNINGS": "1",
    }
    process = await asyncio.create_subprocess_exec(
        *("npx", "--no-install", "playwright", "test", "--config", "e2e/playwright.config.ts", f"{spec}.spec.ts"),
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
