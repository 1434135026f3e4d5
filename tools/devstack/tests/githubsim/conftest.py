"""A simulator for each test, with a clock that only the test moves.

`api` sends one request to the simulated API and holds the answer to GitHub's published description, whatever the
test is about; answers that a fault has made are left out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest

from devstack.githubsim import GithubSim, SimControl
from devstack.githubsim.calls import API_VERSIONS, DEFAULT_API_VERSION
from devstack.githubsim.openapi import Contract
from devstack.githubsim.openapi_fetch import NpmMissing, ensure_description


class ManualClock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Any
    body: Any


class Api:
    """Sends requests; `token` is an IssuedToken, a string, or None for an anonymous request."""

    def __init__(self, sim: GithubSim, session: aiohttp.ClientSession, contracts: dict[str, Contract]) -> None:
        self._sim = sim
        self._session = session
        self._contracts = contracts

    async def __call__(
        self,
        method: str,
        path: str,
        *,
        token: Any = None,
        json: Any = None,
        data: bytes | None = None,
        version: str | None = None,
        enterprise: bool = False,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {getattr(token, 'value', token)}"
        if version is not None:
            sent["X-GitHub-Api-Version"] = version
        url = f"{self._sim.url}{'/api/v3' if enterprise else ''}{path}"
        async with self._session.request(
            method, url, json=json, data=data, headers=sent, allow_redirects=False
        ) as response:
            raw = await response.read()
            is_json = response.content_type == "application/json"
            reply = Reply(response.status, response.headers, orjson.loads(raw) if raw and is_json else None)
        self._check(reply, version or DEFAULT_API_VERSION)
        return reply

    def _check(self, reply: Reply, version: str) -> None:
        request_id = reply.headers.get("X-GitHub-Request-Id")
        entry = next((entry for entry in self._sim.simulation.journal.entries if entry.request_id == request_id), None)
        if entry is None or entry.fault == "status" or entry.operation is None or reply.status == 304:
            return
        method, path = entry.operation.split(" ")
        contract = self._contracts.get(version, self._contracts.get(DEFAULT_API_VERSION))
        if contract is not None:
            contract.check(method, path, reply.status, reply.body)


@pytest.fixture(scope="session")
def described() -> dict[str, Contract]:
    """GitHub's description in each version of the API; empty where there is no npm to fetch it with."""
    try:
        description = ensure_description()
    except NpmMissing:
        return {}
    return {version: Contract(description, version=version) for version in API_VERSIONS}


@pytest.fixture(scope="session")
def contracts(described: dict[str, Contract]) -> dict[str, Contract]:
    if not described:
        pytest.skip("there is no npm to fetch GitHub's description with")
    return described


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def sim(clock: ManualClock) -> AsyncIterator[GithubSim]:
    async with GithubSim.serve(clock=clock) as running:
        yield running


@pytest.fixture
async def control(sim: GithubSim) -> AsyncIterator[SimControl]:
    async with SimControl(sim.url) as client:
        yield client


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as client:
        yield client


@pytest.fixture
async def api(sim: GithubSim, session: aiohttp.ClientSession, described: dict[str, Contract]) -> Api:
    return Api(sim, session, described)


@pytest.fixture
async def alice(control: SimControl) -> Any:
    """A classic token of the user alice, with every scope that repositories need."""
    await control.create_user("alice", name="Alice")
    return await control.create_token("alice")


@pytest.fixture
async def acme(control: SimControl, alice: Any) -> str:
    """An organisation that alice owns and bob is a member of."""
    await control.create_user("bob")
    await control.create_org("acme", members={"alice": "admin", "bob": "member"})
    return "acme"
