"""Gates of several processes over one NATS, before a host that a test scripts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from nats.errors import TimeoutError as NatsTimeout
from nats.js.kv import KeyValue
from prometheus_client import REGISTRY

from codecommon.api.results import Retryable
from codecommon.githost.budget.gate import Budgets
from codecommon.githost.budget.ledger import Ask, Granted, Ledger, Wait
from codecommon.githost.budget.shared import SharedLedger
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.conditional import ETagLayer
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.http.transport import HostTransport, Layer
from codecommon.githost.job import Job, working_on
from codecommon.githost.limits import Limits, Window
from codecommon.messaging.bus import ACCOUNTS, BUDGETS, Bus
from codecommon.process.settings import NatsSettings
from codecommon.testing.clock import Clock

pytestmark = pytest.mark.nats

PRINCIPAL = ("cluster", "uid", "1")
OTHER = ("cluster", "other", "1")
Open = Callable[..., Awaitable[httpx.AsyncClient]]


@asynccontextmanager
async def process(
    bus: Bus, host: Any, limits: Limits | None, *more: Layer, clock: Callable[[], float] = time.time
) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """What one process has: its gate, and ``more`` below it, over its transport; gives a client per credential."""
    budgets = Budgets(bus, {host.name: limits} if limits else {}, clock)
    transport = HostTransport(layers=[budgets.layer, *more], proxies=ProxyRules())
    await budgets.open()
    where = GithubProvider([host.url]).address(host.url)

    def client(credential_key: tuple[str, str, str] = PRINCIPAL) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=where.api_base, transport=transport.borrow(where, credential_key, None))

    try:
        yield client
    finally:
        await transport.aclose()
        await budgets.aclose()


@asynccontextmanager
async def turns(bus: Bus, host: Any, limits: Limits | None) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    budgets = Budgets(bus, {host.name: limits} if limits else {})
    transport = HostTransport(turns=budgets.await_turn, proxies=ProxyRules())
    await budgets.open()
    where = GithubProvider([host.url]).address(host.url)
    try:
        yield transport.borrow(where, PRINCIPAL, None).await_turn
    finally:
        await transport.aclose()
        await budgets.aclose()


async def test_two_processes_share_one_budget_and_what_is_over_it_names_its_time(bus: Bus, scripted: Any) -> None:
    limits = Limits((Window(2, 60.0),))
    async with process(bus, scripted, limits) as one, process(bus, scripted, limits) as two:
        for client in (one(), two()):
            scripted.answer(201, {})
            await client.post("/user/repos")
        with working_on(Job("desired", "object", "w")), pytest.raises(Retryable) as first:
            await one().post("/user/repos")
        with working_on(Job("desired", "object", "w")), pytest.raises(Retryable) as again:
            await two().post("/user/repos")
    assert first.value.reason == "RateLimited"
    assert first.value.exact
    assert first.value.message == again.value.message, "asked again by another process, it keeps its time"
    assert "waiting until 20" in first.value.message
    assert first.value.after is not None
    assert 55 < first.value.after.total_seconds() < 61
    assert len(scripted.seen) == 2


async def test_a_turn_can_be_awaited_without_a_request_and_is_kept_for_the_one_that_follows(
    bus: Bus, scripted: Any
) -> None:
    limits = Limits((Window(1, 60.0),))
    async with process(bus, scripted, limits) as one, turns(bus, scripted, limits) as await_turn:
        with working_on(Job("desired", "object", "w")):
            await await_turn()
        assert scripted.seen == []
        scripted.answer(201, {})
        with working_on(Job("desired", "object", "w")):
            await one().post("/user/repos")
        with working_on(Job("desired", "other", "w")), pytest.raises(Retryable, match="waiting until 20") as refused:
            await await_turn()
    assert refused.value.exact


async def test_where_the_limits_are_not_known_ahead_a_turn_is_there_at_once(bus: Bus, scripted: Any) -> None:
    async with turns(bus, scripted, None) as await_turn:
        await await_turn()
    assert scripted.seen == []


async def test_a_full_budget_keeps_no_app_from_a_token_and_is_not_charged_for_it(bus: Bus, scripted: Any) -> None:
    async with process(bus, scripted, Limits((Window(1, 60.0),))) as one:
        mint = "/app/installations/7/access_tokens"
        for path in (mint, "/user/repos", mint):
            scripted.answer(201, {})
            await one().post(path)
        with pytest.raises(Retryable):
            await one().post("/user/repos")


async def test_the_quota_that_one_process_was_told_holds_for_all(bus: Bus, scripted: Any) -> None:
    limits = Limits(concurrent=100)
    reset = str(int(time.time()) + 600)
    async with process(bus, scripted, limits) as one, process(bus, scripted, limits) as two:
        scripted.answer(200, {}, X_RateLimit_Limit="5000", X_RateLimit_Remaining="0", X_RateLimit_Reset=reset)
        await one().get("/meta")
        with pytest.raises(Retryable):
            await one().get("/meta")
        with pytest.raises(Retryable):
            await two().get("/meta")


async def test_a_short_wait_is_slept_through(bus: Bus, scripted: Any) -> None:
    async with process(bus, scripted, Limits(interval=0.2)) as client:
        for _ in range(2):
            scripted.answer(201, {})
        started = time.monotonic()
        await client().post("/user/repos")
        await client().post("/user/repos")
        assert time.monotonic() - started >= 0.2


async def test_credentials_of_one_account_share_its_budget_once_the_host_has_named_it(bus: Bus, scripted: Any) -> None:
    limits = Limits((Window(1, 60.0),))
    async with process(bus, scripted, limits) as one, process(bus, scripted, limits) as two:
        for credential_key in (PRINCIPAL, OTHER):
            scripted.answer(200, {"id": 7, "login": "alice"})
            await one(credential_key).get("/user")
        scripted.answer(201, {})
        await one(PRINCIPAL).post("/user/repos")
        with pytest.raises(Retryable):
            await two(OTHER).post("/user/repos")


@pytest.mark.parametrize("limits", [None, Limits(concurrent=100)], ids=["by its answers", "paced"])
async def test_a_retry_after_told_to_one_process_stops_the_others(
    bus: Bus, nats_settings: NatsSettings, scripted: Any, limits: Limits | None
) -> None:
    async with (
        Bus.connect(nats_settings) as other_bus,
        process(bus, scripted, limits) as one,
        process(other_bus, scripted, limits) as two,
    ):
        scripted.answer(200, {})
        await two().get("/meta")
        scripted.answer(403, {"message": "You have exceeded a secondary rate limit."}, Retry_After="600")
        await one().get("/meta")
        await other_bus.nc.flush()
        with pytest.raises(Retryable) as stopped:
            await two().get("/meta")
    assert not stopped.value.exact, "or all would come at once"
    assert stopped.value.after is not None
    assert 590 < stopped.value.after.total_seconds() <= 600


async def test_a_process_that_starts_later_knows_of_the_pause(bus: Bus, scripted: Any) -> None:
    async with process(bus, scripted, None) as one:
        scripted.answer(429, {"message": "slow down"}, Retry_After="600")
        await one().get("/meta")
    async with process(bus, scripted, None) as two:
        with pytest.raises(Retryable):
            await two().get("/meta")


async def blocked_by_another_process(bus: Bus, scripted: Any, *, named: bool = True) -> int:
    """Have the host refuse another process for ten minutes; ``named``: after it has said whose the credential is.

    Returns how many requests the host has seen by then.
    """
    async with process(bus, scripted, None) as one:
        if named:
            scripted.answer(200, {"id": 7, "login": "alice"})
            await one().get("/user")
        scripted.answer(429, {"message": "slow down"}, Retry_After="600")
        await one().get("/meta")
    return len(scripted.seen)


@pytest.mark.parametrize("named", [True, False], ids=["the account is known", "only the credential is known"])
async def test_a_process_that_starts_sends_nothing_to_a_blocked_account_however_many_ask_at_once(
    bus: Bus, scripted: Any, named: bool
) -> None:
    sent = await blocked_by_another_process(bus, scripted, named=named)
    scripted.send(*[b""] * 20)
    async with process(bus, scripted, None) as two:
        outcomes = await asyncio.gather(*(two().get("/meta") for _ in range(20)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Retryable] * 20
    assert len(scripted.seen) == sent


def unanswered_looks(monkeypatch: pytest.MonkeyPatch, bucket: str) -> list[int]:
    """``[n, m]``: the next n looks into ``bucket`` get no answer; m have been made."""
    get, looks = KeyValue.get, [0, 0]

    async def unanswered(self: KeyValue, key: str) -> KeyValue.Entry:
        if self._name == bucket:
            looks[1] += 1
            if looks[0]:
                looks[0] -= 1
                raise NatsTimeout
        return await get(self, key)

    monkeypatch.setattr(KeyValue, "get", unanswered)
    return looks


@pytest.mark.parametrize("bucket", [BUDGETS, ACCOUNTS])
async def test_a_process_that_starts_sends_nothing_until_it_has_looked_whether_the_account_is_blocked(
    bus: Bus, scripted: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = await blocked_by_another_process(bus, scripted)
    scripted.send(*[b""] * 2)
    looks = unanswered_looks(monkeypatch, bucket)
    async with process(bus, scripted, None) as two:
        looks[0] = 1
        with pytest.raises(Retryable) as unknown:
            await two().get("/meta")
        with pytest.raises(Retryable) as blocked:
            await two().get("/meta")
    assert (unknown.value.reason, unknown.value.after) == ("RateLimited", timedelta(seconds=5))
    assert blocked.value.after is not None
    assert blocked.value.after.total_seconds() > 500
    assert len(scripted.seen) == sent


@pytest.mark.parametrize("bucket", [BUDGETS, ACCOUNTS])
async def test_a_look_that_fails_later_leaves_what_is_known(
    bus: Bus, scripted: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(datetime.now(UTC))
    looks = unanswered_looks(monkeypatch, bucket)
    async with process(bus, scripted, None, clock=lambda: clock.now().timestamp()) as client:
        for _ in range(3):
            scripted.answer(200, {})
            await client().get("/meta")
            clock.advance(31)
            looks[0] = 1
        async with asyncio.timeout(5):
            while looks[1] < 3:
                await asyncio.sleep(0.01)
    assert len(scripted.seen) == 3


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"Retry_After": "0"}, [60, 120, 240]),
        ({"X_RateLimit_Limit": "9", "X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "1795435200"}, [60, 120, 240]),
        ({"Retry_After": "5"}, [5, 60, 120]),
    ],
    ids=["no time to wait", "a reset that has passed", "a time that is too short"],
)
async def test_a_host_that_goes_on_refusing_is_asked_ever_more_rarely_whatever_times_it_names(
    bus: Bus, scripted: Any, headers: dict[str, str], waits: list[int]
) -> None:
    clock = Clock(datetime.now(UTC))
    async with process(bus, scripted, None, clock=lambda: clock.now().timestamp()) as client, asyncio.timeout(5):
        for number, seconds in enumerate(waits, 1):
            scripted.answer(403, {"message": "API rate limit exceeded for user ID 1."}, **headers)
            await client().get("/meta")
            with pytest.raises(Retryable) as refused:
                await client().get("/meta")
            assert refused.value.after == timedelta(seconds=seconds)
            assert len(scripted.seen) == number
            clock.advance(seconds)


async def test_a_host_that_works_between_its_pauses_is_believed_each_time(bus: Bus, scripted: Any) -> None:
    clock = Clock(datetime.now(UTC))
    async with process(bus, scripted, None, clock=lambda: clock.now().timestamp()) as client, asyncio.timeout(5):
        for _ in range(4):
            scripted.answer(200, {})
            await client().get("/meta")
            scripted.answer(403, {"message": "slow down"}, Retry_After="38")
            await client().get("/meta")
            with pytest.raises(Retryable) as refused:
                await client().get("/meta")
            assert refused.value.after == timedelta(seconds=38)
            clock.advance(38)


async def test_an_exhausted_quota_is_not_asked_of_again_before_its_reset(bus: Bus, scripted: Any) -> None:
    async with process(bus, scripted, None) as client:
        reset = str(int(time.time()) + 900)
        scripted.answer(200, {}, X_RateLimit_Limit="10", X_RateLimit_Remaining="0", X_RateLimit_Reset=reset)
        await client().get("/meta")
        with pytest.raises(Retryable):
            await client().get("/meta")
    assert len(scripted.seen) == 1


@pytest.mark.parametrize("known", [None, Limits()], ids=["unknown limits", "known limits"])
async def test_what_is_answered_with_304_takes_nothing_of_the_share_of_drift(
    bus: Bus, scripted: Any, known: Limits | None
) -> None:
    quota = {"X_RateLimit_Limit": "8", "X_RateLimit_Remaining": "7", "X_RateLimit_Reset": str(int(time.time()) + 900)}
    async with process(bus, scripted, known, ETagLayer) as client:
        with working_on(Job("drift", "", "w")):
            scripted.answer(200, {}, ETag='"1"', **quota)
            await client().get("/meta")
            for _ in range(6):
                scripted.send(b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nContent-Length: 0\r\n\r\n')
                await client().get("/meta")
            # Of eight requests drift may have two.
            for path in ("/a", "/b"):
                scripted.answer(200, {}, **quota)
                await client().get(path)
            with pytest.raises(Retryable):
                await client().get("/c")
    assert len(scripted.seen) == 9


async def test_a_host_without_known_limits_costs_no_message(bus: Bus, scripted: Any) -> None:
    async with process(bus, scripted, None) as client:
        scripted.answer(200, {})
        await client().get("/meta")
        sent = bus.nc.stats["out_msgs"]
        for _ in range(5):
            scripted.answer(201, {})
            await client().post("/user/repos")
        assert bus.nc.stats["out_msgs"] == sent


async def test_many_asking_two_ledgers_at_once_are_granted_what_one_would_grant(bus: Bus) -> None:
    bucket, limits = await bus.bucket(BUDGETS), Limits((Window(25, 60.0),), concurrent=1000)
    ledgers = [SharedLedger(bucket, "k", limits) for _ in range(2)]
    asked = [ledgers[n % 2].ask(Ask(f"l{n}", "POST", Job("desired", str(n)))) for n in range(100)]
    answers = await asyncio.gather(*asked)
    assert sum(isinstance(answer, Granted) for answer in answers) == 25
    assert len({answer.until for answer in answers if isinstance(answer, Wait)}) > 1
    for ledger in ledgers:
        await ledger.flush()


async def test_a_request_that_is_cancelled_gives_its_place_back(bus: Bus, scripted: Any) -> None:
    limits = Limits(concurrent=1)
    async with process(bus, scripted, limits) as client:
        scripted.send(None)
        hanging = asyncio.create_task(client().get("/meta"))
        async with asyncio.timeout(5):
            while not scripted.seen:
                await asyncio.sleep(0.01)
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        scripted.answer(200, {})
        assert (await client().get("/meta")).status_code == 200


async def test_places_of_a_process_that_was_killed_are_free_when_their_lease_ends(bus: Bus) -> None:
    bucket, limits = await bus.bucket(BUDGETS), Limits(concurrent=1)
    now = 1000.0
    dead = SharedLedger(bucket, "k", limits, lambda: now)
    assert await dead.ask(Ask("dead", "GET", Job("interactive"))) == Granted()
    alive = SharedLedger(bucket, "k", limits, lambda: now)
    assert isinstance(await alive.ask(Ask("a", "GET", Job("interactive"))), Wait)
    now += 31
    assert await alive.ask(Ask("b", "GET", Job("interactive"))) == Granted()
    assert list(Ledger.decode((await bucket.get("ledger.k")).value or b"", time.time()).under_way) == ["b"]


def figure(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_the_figure_of_reserved_objects_is_right_however_many_ask_at_once(bus: Bus, scripted: Any) -> None:
    before = figure("code_host_budget_reserved", host=scripted.name)

    async def post(client: httpx.AsyncClient, uid: str) -> None:
        with working_on(Job("desired", uid, "w")):
            await client.post("/user/repos")

    async with process(bus, scripted, Limits((Window(1, 60.0),))) as client:
        scripted.answer(201, {})
        outcomes = await asyncio.gather(*(post(client(), str(n)) for n in range(30)), return_exceptions=True)
    assert sum(isinstance(outcome, Retryable) for outcome in outcomes) == 29
    assert figure("code_host_budget_reserved", host=scripted.name) == before + 29


async def test_a_request_that_waits_in_several_steps_is_counted_once(bus: Bus, scripted: Any) -> None:
    labels = {"host": scripted.name, "urgency": "interactive"}
    before = figure("code_host_budget_waits_total", **labels)
    async with process(bus, scripted, Limits(concurrent=1)) as client:
        scripted.send(None)
        hanging = asyncio.create_task(client().get("/meta"))
        async with asyncio.timeout(5):
            while not scripted.seen:
                await asyncio.sleep(0.01)
        with pytest.raises(Retryable):
            await client().get("/meta")
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
    assert figure("code_host_budget_waits_total", **labels) == before + 1


@pytest.mark.parametrize("limits", [None, Limits((Window(80, 60.0),))], ids=["limits unknown", "ledger"])
async def test_no_header_blocks_an_account_for_more_than_an_hour(
    bus: Bus, scripted: Any, limits: Limits | None
) -> None:
    clock = Clock()
    spent = {"X_RateLimit_Limit": "5000", "X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "99999999999"}
    async with process(bus, scripted, limits, clock=clock) as one, process(bus, scripted, limits, clock=clock) as two:
        scripted.answer(200, {}, **spent)
        await one().get("/user")
        for client in (one(), one(), *((two(),) if limits else ())):
            with pytest.raises(Retryable) as refused:
                await client.get("/user")
            assert refused.value.after is not None
            assert refused.value.after.total_seconds() <= 3600
        clock.advance(3601)
        scripted.answer(200, {})
        assert (await one().get("/user")).status_code == 200
