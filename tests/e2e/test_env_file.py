"""From a developer's ``.env`` to a sign-in at the host that it names, through the stack that ``make up`` starts."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import aiohttp
import pytest

from devstack.connect_with_github import PATH
from devstack.devhub.certificate import trusting_context
from devstack.env_file import EnvFile
from devstack.githubsim import SimControl
from devstack.kcp import Kcp
from devstack.ports import LOOPBACK, free_ports
from devstack.settings import Settings
from devstack.simulator import SimulatorProcess
from devstack.stack import running_stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


async def test_the_app_of_the_env_file_signs_people_in_and_the_page_has_the_token(
    kcp: Kcp, github_sim: SimulatorProcess, dev_settings: Settings, run_dir: Path, tmp_path: Path
) -> None:
    """The simulator of the run stands for the host of the developer's own app. The stack has another one of its own."""
    (port,) = free_ports(1)
    redirect = f"https://{LOOPBACK}:{port}{PATH}/callback"
    async with SimControl(github_sim.url) as control:
        await control.create_user("octocat")
        app = await control.create_oauth_app(redirect)
        await control.approve_oauth_as(app.client_id, "octocat")
    env_file = tmp_path / ".env"
    env_file.write_text(
        f"GITHUB_OAUTH_CLIENT_ID={app.client_id}\nGITHUB_OAUTH_CLIENT_SECRET={app.client_secret}\n"
        f"GITHUB_OAUTH_REDIRECT_URL={redirect}\nGITHUB_OAUTH_BASE_URL={github_sim.url}\n"
    )
    own = {"CODE_DEV_KUBECONFIG": str(kcp.kubeconfig), **dev_settings.environment}
    settings = Settings.from_environ({**EnvFile.read(env_file).values, **own})

    async with (
        running_stack(run_dir / "env-file", settings, lambda line: None, hub_path="root:kedge-env-file") as stack,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusting_context()), cookie_jar=aiohttp.CookieJar(unsafe=True)
        ) as browser,
    ):
        assert stack.hub.url == f"https://{LOOPBACK}:{port}"
        async with browser.get(f"{stack.hub.url}{PATH}/config") as answer:
            config = await answer.json()
        assert (config["enabled"], config["baseURL"]) == (True, github_sim.url)

        async with browser.get(config["startURL"], params={"state": "mine"}, allow_redirects=False) as answer:
            authorise = answer.headers["Location"]
        assert authorise.startswith(f"{github_sim.url}/login/oauth/authorize")
        assert parse_qs(urlsplit(authorise).query)["client_id"] == [app.client_id]
        async with browser.get(authorise, allow_redirects=False) as answer:
            callback = urljoin(authorise, answer.headers["Location"])
        assert callback.startswith(redirect)
        async with browser.get(callback) as answer:
            page = await answer.text()
        assert re.search(r'"login":\s*"octocat"', page), page
        assert re.search(r'"token":\s*"gho_\w+"', page)
        assert re.search(r'"state":\s*"mine"', page)
