"""When a token of an App's installation is made: rarely, in time, and once however many want it."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from codecommon.api.connection import ConnectionSpec
from codecommon.api.results import Retryable
from codecommon.githost.github.app import InstallationTokens
from codecommon.githost.github.credential import AppSecret, read_credential
from codecommon.githost.github.holder import AppHolder, AppHolders
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.protocol import HostBusy, HostTarget, HostUnavailable
from codecommon.process.secrets import SecretValue
from codecommon.testing.builders import connection_object
from codecommon.testing.clock import Clock

# The host says what its own clock shows; the one of this process has another date.
DATE, AN_HOUR_LATER = "Mon, 23 Nov 2026 12:00:00 GMT", "2026-11-23T13:00:00Z"


class AppHost(httpx.AsyncBaseTransport):
    """Knows one installation; makes a new token whenever asked, but not before ``answering`` is set."""

    def __init__(self) -> None:
        self.minted = 0
        self.issuers: set[object] = set()
        self.answering = asyncio.Event()
        self.answering.set()
        self.asked = asyncio.Event()
        self.failing: Exception | None = None
        self.down = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        jwt_sent = request.headers["Authorization"].removeprefix("Bearer ")
        self.issuers.add(jwt.decode(jwt_sent, options={"verify_signature": False})["iss"])
        if request.method == "GET":
            account = {"id": 1, "login": "acme", "type": "Organization"}
            body: dict[str, object] = {"id": 7, "account": account, "app_slug": "provider"}
            return httpx.Response(200, headers={"Date": DATE}, json=body, request=request)
        self.minted += 1
        self.asked.set()
        await self.answering.wait()
        if (failing := self.failing) is not None:
            self.failing = None
            raise failing
        if self.down:
            return httpx.Response(503, headers={"Date": DATE}, json={"message": "down"}, request=request)
        body = {"token": f"ghs_number{self.minted}", "expires_at": AN_HOUR_LATER}
        return httpx.Response(201, headers={"Date": DATE}, json=body, request=request)


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture
def host() -> AppHost:
    return AppHost()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(host: AppHost, clock: Clock, private_key: str) -> InstallationTokens:
    secret = AppSecret("1", None, "acme", SecretValue(private_key))
    return InstallationTokens(GithubProvider().address(""), secret, host, clock)


async def test_a_token_is_replaced_at_80_percent_of_its_life_and_not_before(
    host: AppHost, clock: Clock, tokens: InstallationTokens
) -> None:
    first = await tokens.token()
    clock.advance(0.8 * 3600 - 1)
    assert await tokens.token() == first
    assert host.minted == 1
    clock.advance(1)
    second = await tokens.token()
    assert second != first
    assert host.minted == 2
    clock.advance(0.8 * 3600 - 1)
    assert await tokens.token() == second
    assert host.minted == 2


async def test_the_time_that_the_answer_takes_is_part_of_the_tokens_life(
    host: AppHost, clock: Clock, tokens: InstallationTokens
) -> None:
    host.answering.clear()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(tokens.token())
        await host.asked.wait()
        clock.advance(60)
        host.answering.set()
    clock.advance(0.8 * 3600 - 60)
    await tokens.token()
    assert host.minted == 2


async def test_however_many_want_a_token_at_once_one_is_made_each_time(
    host: AppHost, clock: Clock, tokens: InstallationTokens
) -> None:
    for made in (1, 2):
        host.answering.clear()
        host.asked.clear()
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            wanting = [group.create_task(tokens.token()) for _ in range(20)]
            await host.asked.wait()
            host.answering.set()
        assert {task.result().reveal() for task in wanting} == {f"ghs_number{made}"}
        assert host.minted == made
        clock.advance(3600)


async def test_a_token_that_several_requests_were_refused_with_is_replaced_once(
    host: AppHost, tokens: InstallationTokens
) -> None:
    refused = await tokens.token()
    tokens.answered(refused, 200)
    others = await asyncio.gather(*(tokens.after_rejection(refused, None) for _ in range(5)))
    assert {other.reveal() for other in others} == {"ghs_number2"}
    assert host.minted == 2


async def test_who_waits_for_a_token_leaves_soon_and_at_once_where_another_one_waits_already(
    host: AppHost, tokens: InstallationTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codecommon.githost.github.app._LONGEST_WAIT_SECONDS", 0.5)
    host.answering.clear()
    first = asyncio.create_task(tokens.token())
    await host.asked.wait()
    # Ten that wait one after the other for half a second each would need five.
    async with asyncio.timeout(3):
        for _ in range(10):
            with pytest.raises(HostBusy) as busy:
                await tokens.token()
            assert busy.value.drift_after is not None, "whoever waits first would miss its comparison each time"
    host.answering.set()
    assert await first == await tokens.token()
    assert host.minted == 1


async def test_those_who_wait_while_a_host_makes_no_token_share_its_answer(
    host: AppHost, tokens: InstallationTokens
) -> None:
    host.down = True
    host.answering.clear()
    waiting = [asyncio.create_task(tokens.token()) for _ in range(20)]
    await host.asked.wait()
    host.answering.set()
    async with asyncio.timeout(5):
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {HostUnavailable}
    assert len({id(result) for result in results}) == 20
    assert host.minted == 1
    host.down = False
    await tokens.token()
    assert host.minted == 2, "who comes later asks the host"


async def test_those_who_wait_do_not_share_that_one_of_them_has_no_turn(
    host: AppHost, tokens: InstallationTokens
) -> None:
    host.failing = HostBusy("api.github.com", 1.0)
    results = await asyncio.gather(*(tokens.token() for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [HostBusy, *[SecretValue] * 4]


async def test_a_comparison_that_a_new_token_prevents_is_made_again_when_the_token_is_known(
    clock: Clock, tokens: InstallationTokens
) -> None:
    token = await tokens.token()
    clock.advance(3)
    with pytest.raises(Retryable) as early:
        tokens.answered(token, 404)
    assert early.value.drift_after == timedelta(seconds=7)
    clock.advance(7)
    tokens.answered(token, 404)


def test_a_workspace_with_many_apps_goes_on_with_their_tokens_and_leaves_room_to_others(private_key: str) -> None:
    apps, address = AppHolders(lambda: 0.0), GithubProvider().address("")

    def use(workspace: str, number: int) -> AppHolder:
        secret = AppSecret("1", None, f"org{number}", SecretValue(private_key))
        return apps.holder(address, HostTarget("", secret, None, (workspace, f"uid{number}", "1")), secret, AppHost())

    other = use("other", 0)
    before = [use("many", number) for number in range(300)]
    assert [use("many", number) for number in range(300)] == before
    for number in range(300, 3000):
        use("many", number)
    assert use("other", 0) is other


@pytest.mark.parametrize("app_id", ["1", "Iv1.8a61f9b3a7aba766"])
async def test_the_app_is_named_to_the_host_as_the_secret_names_it(
    host: AppHost, private_key: str, app_id: str
) -> None:
    spec = ConnectionSpec.model_validate(connection_object(type="github-app", owner="acme")["spec"])
    data = {"githubAppID": app_id + "\n", "githubAppPrivateKey": private_key.replace("\n", "\\n")}
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    secret = read_credential(spec, encoded, "Secret default/app")
    assert isinstance(secret, AppSecret)
    await InstallationTokens(GithubProvider().address(""), secret, host).token()
    assert host.issuers == {app_id}
