"""What a host refuses an App as such stops the App, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from codecommon.api.results import Retryable
from codecommon.githost.budget.gate import Budgets
from codecommon.githost.github.credential import AppSecret, TokenSecret
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.transport import HostTransport
from codecommon.githost.protocol import GitBackend, HostTarget
from codecommon.messaging.bus import Bus
from codecommon.process.secrets import SecretValue

pytestmark = pytest.mark.nats

INSTALLATION = {"id": 7, "account": {"id": 1, "login": "acme", "type": "Organization"}, "app_slug": "provider"}
SLOW_DOWN = {"message": "You have exceeded a secondary rate limit."}


def private_key() -> SecretValue:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return SecretValue(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


@pytest.fixture(scope="module")
def app() -> AppSecret:
    return AppSecret("1", None, "acme", private_key())


@asynccontextmanager
async def process(bus: Bus, host: Any) -> AsyncIterator[Callable[[HostTarget], GitBackend]]:
    budgets = Budgets(bus, {})
    transport = HostTransport(layers=[budgets.layer], proxies=ProxyRules())
    await budgets.open()
    try:
        github = GithubProvider([host.url])
        yield lambda target: github.open(target, transport)
    finally:
        await transport.aclose()
        await budgets.aclose()


def connection(host: Any, app: AppSecret, uid: str = "uid") -> HostTarget:
    return HostTarget(host.url, app, None, ("cluster", uid, "1"))


async def refused(sender: GitBackend) -> Retryable:
    with pytest.raises(Retryable) as caught:
        await sender.get_user_id("alice")
    assert caught.value.reason == "RateLimited"
    return caught.value


async def test_however_many_objects_want_a_token_of_an_app_that_is_refused_one_the_host_is_asked_once(
    bus: Bus, scripted: Any, app: AppSecret
) -> None:
    scripted.answer(200, INSTALLATION)
    scripted.answer(403, SLOW_DOWN, Retry_After="600")
    scripted.send(*[b""] * 50)
    async with process(bus, scripted) as open_session:
        sessions = [open_session(connection(scripted, app)) for _ in range(50)]
        outcomes = await asyncio.gather(*(refused(sender) for sender in sessions))
    assert [seen.method for seen in scripted.seen] == ["GET", "POST"]
    assert all(outcome.after is not None and outcome.after.total_seconds() > 590 for outcome in outcomes)


async def test_the_refusal_holds_for_every_connection_of_the_app_in_every_process(
    bus: Bus, scripted: Any, app: AppSecret
) -> None:
    scripted.answer(403, SLOW_DOWN, Retry_After="600")
    scripted.send(*[b""] * 2)
    async with process(bus, scripted) as one:
        await refused(one(connection(scripted, app)))
        # Another workspace's, for another account, with the key as an editor saved it.
        other = replace(app, owner="other", private_key=SecretValue(app.private_key.reveal().strip()))
        assert "of this App" in (await refused(one(connection(scripted, other, "other")))).message
    async with process(bus, scripted) as two:
        await refused(two(connection(scripted, app)))
    assert len(scripted.seen) == 1


async def test_a_token_that_is_there_and_other_credentials_are_used_on_and_who_has_not_the_key_stops_no_app(
    bus: Bus, scripted: Any, app: AppSecret
) -> None:
    async with process(bus, scripted) as open_session:
        scripted.answer(200, INSTALLATION)
        scripted.answer(201, {"token": "ghs_one", "expires_at": "2026-11-23T13:00:00Z"})
        scripted.answer(200, {"id": 5, "login": "alice", "type": "User"})
        sender = open_session(connection(scripted, app))
        assert await sender.get_user_id("alice") == "5"

        stranger = AppSecret(app.app_id, None, "acme", private_key())
        scripted.answer(403, SLOW_DOWN, Retry_After="600")
        await refused(open_session(connection(scripted, stranger, "stranger")))
        scripted.answer(403, SLOW_DOWN, Retry_After="600")
        await refused(open_session(connection(scripted, app, "other")))
        assert len(scripted.seen) == 5

        scripted.answer(200, {"id": 5, "login": "alice", "type": "User"})
        assert await sender.get_user_id("alice") == "5"
        scripted.answer(200, {"id": 5, "login": "alice", "type": "User"})
        token = HostTarget(scripted.url, TokenSecret(SecretValue("ghp_token")), None, ("cluster", "token", "1"))
        assert await open_session(token).get_user_id("alice") == "5"
