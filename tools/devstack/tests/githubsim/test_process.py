"""The simulator as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from devstack.githubsim import SimControl


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[str]:
    """The URL of a simulator process, stopped with SIGTERM at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "devstack.githubsim", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 10)
        yield json.loads(line)["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_a_restarted_process_keeps_its_world_in_the_state_file(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    state = tmp_path / "sim.json"
    async with running("--state-file", str(state)) as url, SimControl(url) as control:
        await control.create_user("alice")
        await control.create_org("acme", members={"alice": "admin"})
        token = await control.create_token("alice")
        before = await control.create_repository("acme", "demo", branches=["main"], grants={"alice": "admin"})
        await control.edit_repository("acme", "demo", name="fresh")
        await control.set_team("acme", "ops", members=["alice"], repositories={"fresh": "maintain"})
        key = await control.add_key("acme", "fresh", "ssh-ed25519 AAAA", login="alice")
        await control.publish_package("acme", "container", "shop/web", repository="fresh")
        image = await control.publish_version("acme", "container", "shop/web", tags=["1.0"])
        deleted = await control.publish_version("acme", "container", "shop/web")
        await control.delete_version("acme", "container", "shop/web", deleted.name)
        packages = await control.packages("acme")
        app = await control.create_oauth_app("https://portal.example/callback", approve_as="alice")
        await control.create_user("carol")
        headers = {"Authorization": f"Bearer {token.value}"}
        async with session.put(f"{url}/repos/acme/fresh/collaborators/carol", headers=headers, json={}) as response:
            assert response.status == 201
    assert state.stat().st_mode & 0o077 == 0

    async with running("--state-file", str(state)) as url, SimControl(url) as control:
        headers = {"Authorization": f"Bearer {token.value}"}
        async with session.get(f"{url}/repos/acme/demo", headers=headers) as response:
            after = await response.json()
        assert after["id"] == before.id
        assert after["full_name"] == "acme/fresh"
        assert await control.all_keys() == [key]
        assert await control.packages("acme") == packages
        assert await control.versions("acme", "container", "shop/web") == [image]
        assert (await control.publish_version("acme", "container", "shop/web")).id > deleted.id
        await control.accept_invitation("acme", "fresh", "carol")
        assert await control.grants("acme", "fresh") == {"alice": "admin", "carol": "write"}
        asked = {"client_id": app.client_id}
        async with session.get(f"{url}/login/oauth/authorize", params=asked, allow_redirects=False) as response:
            assert response.headers["Location"].startswith("https://portal.example/callback?code=")
        assert await control.create_user("bob") > after["owner"]["id"]
