"""The git host as a person with a token sees it: the same calls for GitHub and for the simulator."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp

from devstack.errors import NotReady, StackError

POLL_INTERVAL = 0.5
"""Seconds between looks at the host, which has nothing to watch."""

GITHUB_API = "https://api.github.com"
Repository = dict[str, Any]


@dataclass(frozen=True)
class GitHost:
    """The REST API at `api`, used by hand."""

    session: aiohttp.ClientSession
    api: str

    async def repository(self, token: str, owner: str, name: str) -> Repository | None:
        """The repository, or None if the host says that there is none."""
        return await self._call("GET", token, f"/repos/{owner}/{name}", none_for=404)

    async def describe(self, token: str, owner: str, name: str, description: str) -> None:
        """Changes the description behind the provider's back."""
        await self._call("PATCH", token, f"/repos/{owner}/{name}", {"description": description})

    async def wait_for_description(self, token: str, owner: str, name: str, wanted: str, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                while ((await self.repository(token, owner, name)) or {}).get("description") != wanted:
                    await asyncio.sleep(POLL_INTERVAL)
        except TimeoutError:
            raise NotReady(f"{owner}/{name} was not repaired within {timeout:g} s") from None

    async def wait_until_gone(self, token: str, owner: str, name: str, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                while await self.repository(token, owner, name) is not None:
                    await asyncio.sleep(POLL_INTERVAL)
        except TimeoutError:
            raise NotReady(f"{owner}/{name} is still on the host after {timeout:g} s") from None

    async def _call(
        self, method: str, token: str, path: str, body: dict[str, Any] | None = None, *, none_for: int | None = None
    ) -> Any:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.github+json"}
        timeout = aiohttp.ClientTimeout(total=30)
        async with self.session.request(method, self.api + path, headers=headers, json=body, timeout=timeout) as answer:
            if answer.status == none_for:
                return None
            if answer.status >= 400:
                raise StackError(
                    f"the git host answered {method} {path} with {answer.status}: {(await answer.text())[:300]}"
                )
            return await answer.json()
