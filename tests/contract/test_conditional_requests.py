"""The conditional cache against the simulator, whose ETags depend on credential, media type and body as GitHub's do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import pytest
from git_hosts import public_key

from codecommon.githost.github.credential import TokenSecret
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.conditional import ETagLayer
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import GitBackend, HostRepository, HostTarget, RepositoryChanges
from codecommon.process.secrets import SecretValue
from codecommon.testing.clock import Clock
from devstack.githubsim import GithubSim, SimControl

ME = "octocat"


@dataclass
class Bed:
    """``clock``: what the cache takes for the time. It keeps 64 KiB at most."""

    control: SimControl
    url: str
    transport: HostTransport
    clock: Clock

    async def open(self, version: str = "1") -> GitBackend:
        """A session with a token of its own; equal versions are one principal, as with an App's hourly tokens."""
        token = (await self.control.create_token(ME)).value
        github = GithubProvider([self.url])
        target = HostTarget(self.url, TokenSecret(SecretValue(token)), None, ("cluster", "uid", version))
        return github.open(target, self.transport)

    async def not_modified(self) -> list[bool]:
        """Of each request since the last call, whether it was answered with a 304."""
        entries = (await self.control.journal()).entries
        await self.control.clear_journal()
        return [entry.not_modified for entry in entries]


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    async with GithubSim.serve() as sim, SimControl(sim.url) as control:
        await control.create_user(ME)
        await control.create_repository(ME, "web", description="as it was")
        clock = Clock()
        cache = partial(ETagLayer, most_bytes=2 * 64 * 1024, clock=clock)
        transport = HostTransport(layers=[cache], proxies=ProxyRules())
        try:
            yield Bed(control, sim.url, transport, clock)
        finally:
            await transport.aclose()


async def read(session: GitBackend, name: str = "web") -> HostRepository:
    found = await session.find_repository(ME, name)
    assert isinstance(found, HostRepository)
    return found


async def test_what_has_not_changed_costs_a_304_and_reads_the_same(bed: Bed) -> None:
    session = await bed.open()
    first = await read(session)
    assert await bed.not_modified() == [False]
    assert await read(session) == first
    assert await bed.not_modified() == [True]


async def test_a_304_hides_no_drift(bed: Bed) -> None:
    session = await bed.open()
    await read(session)
    await read(session)
    await bed.control.edit_repository(ME, "web", description="vandalised")
    await bed.not_modified()
    assert (await read(session)).description == "vandalised"
    assert await bed.not_modified() == [False]


async def test_our_own_write_is_seen_by_the_next_read(bed: Bed) -> None:
    session = await bed.open()
    found = await read(session)
    await session.update_repository(found.id, RepositoryChanges(description="edited"))
    assert (await read(session)).description == "edited"


async def test_credentials_share_nothing(bed: Bed) -> None:
    mine, another, renewed = await bed.open("1"), await bed.open("2"), await bed.open("1")
    await read(mine)
    await read(another)
    # Another token of the same principal: the host does not know the ETag under it.
    await read(renewed)
    await read(renewed)
    assert await bed.not_modified() == [False, False, False, True]


async def test_a_full_page_that_has_not_changed_does_not_hide_the_one_that_is_new(bed: Bed) -> None:
    session = await bed.open()
    repository = await read(session)

    async def shown() -> int:
        listed = await session.list_deploy_keys(repository.id)
        assert listed is not None
        return len(listed.items)

    for _ in range(100):
        await bed.control.add_key(ME, "web", public_key(), login=ME)
    assert await shown() == 100
    await bed.control.add_key(ME, "web", public_key(), login=ME)
    await bed.not_modified()
    assert await shown() == 101
    assert await bed.not_modified() == [True, False]


async def test_what_was_not_used_for_long_is_forgotten_for_what_is_new(bed: Bed) -> None:
    session = await bed.open()
    for name in "abcdefghi":
        await bed.control.create_repository(ME, name)
        await read(session, name)
    await bed.not_modified()
    await read(session, "i")
    await read(session, "a")
    assert await bed.not_modified() == [True, False]


async def test_where_everything_changes_all_the_time_nothing_is_kept_for_an_hour(bed: Bed) -> None:
    session = await bed.open()
    for number in range(51):
        await bed.control.edit_repository(ME, "web", description=str(number))
        await read(session)
        bed.clock.advance(75)
    await bed.control.clear_journal()
    for _ in range(2):
        await read(session)
    bed.clock.advance(3600)
    for _ in range(2):
        await read(session)
    assert await bed.not_modified() == [False, False, False, True]
