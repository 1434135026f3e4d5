from __future__ import annotations

import asyncio
import random
import ssl
from dataclasses import dataclass, field

import httpx
import pytest
from prometheus_client import REGISTRY

from codecommon.api.results import Retryable
from codecommon.githost.address import HostAddress
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.outage import BreakerLayer
from codecommon.githost.http.sender import Sender, attach
from codecommon.githost.http.trust import WELL_KNOWN
from codecommon.githost.protocol import HostBusy
from codecommon.testing.clock import Clock

HOSTS = GithubProvider(["ghe.example", "other.example"])
ENDPOINT = HOSTS.address("https://ghe.example")
# No layer under test looks at it.
OPENED_AFTER = 5


def html(status: int) -> httpx.Response:
    return httpx.Response(status, headers={"Content-Type": "text/html; charset=utf-8"})


@dataclass
class Host:
    """Answers, or fails, with ``says``; requests wait while ``gate`` is closed."""

    says: httpx.Response | Exception = field(default_factory=lambda: httpx.ConnectError("down"))
    requests: int = 0
    running: int = 0
    most_running: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Bed:
    def __init__(self) -> None:
        self.host, self.clock = Host(), Clock()
        self.host.gate.set()
        self.layer = BreakerLayer(httpx.MockTransport(self.host.answer), clock=self.clock, rng=random.Random(1))

    async def ask(self, address: HostAddress = ENDPOINT) -> httpx.Response:
        request = httpx.Request("GET", address.api_base + "/user")
        attach(request, Sender(address, ("cluster", "uid", "1"), WELL_KNOWN))
        return await self.layer.handle_async_request(request)

    async def fail(self, times: int) -> list[BaseException | httpx.Response]:
        return [(await asyncio.gather(self.ask(), return_exceptions=True))[0] for _ in range(times)]

    async def refused(self) -> Retryable:
        with pytest.raises(Retryable) as refused:
            await self.ask()
        return refused.value


@pytest.fixture
def bed() -> Bed:
    return Bed()


async def yield_to_all() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    "says",
    [httpx.ConnectError("x"), httpx.ReadTimeout("x"), httpx.ReadError("x"), httpx.Response(503), html(502), html(200)],
)
async def test_a_host_that_keeps_failing_is_no_longer_asked(bed: Bed, says: httpx.Response | Exception) -> None:
    bed.host.says = says
    await bed.fail(OPENED_AFTER)
    assert bed.host.requests == OPENED_AFTER
    for _ in range(100):
        refused = await bed.refused()
        assert refused.reason == "HostUnavailable"
        assert refused.after is not None
        assert 5 <= refused.after.total_seconds() <= 10
    assert bed.host.requests == OPENED_AFTER


@pytest.mark.parametrize("status", [200, 304, 401, 403, 404, 422, 429])
async def test_whatever_the_api_says_is_an_answer(bed: Bed, status: int) -> None:
    bed.host.says = httpx.Response(status, json={"message": "no"})
    for _ in range(100):
        assert (await bed.ask()).status_code == status


def untrusted() -> httpx.ConnectError:
    error = httpx.ConnectError("x")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    return error


async def test_a_certificate_that_one_session_does_not_trust_stops_nobody(bed: Bed) -> None:
    bed.host.says = untrusted()
    for _ in range(100):
        with pytest.raises(httpx.ConnectError):
            await bed.ask()


async def test_a_certificate_that_one_session_does_not_trust_ends_no_outage_and_leaves_the_probe_to_others(
    bed: Bed,
) -> None:
    await bed.fail(OPENED_AFTER)
    bed.clock.advance(5)
    bed.host.says = untrusted()
    for _ in range(10):
        with pytest.raises(httpx.ConnectError):
            await bed.ask()
    bed.host.says = httpx.Response(503)
    before = bed.host.requests
    for _ in range(10):
        assert (await bed.refused()).reason == "HostUnavailable"
    assert bed.host.requests == before + 1


async def test_one_host_s_outage_does_not_concern_another(bed: Bed) -> None:
    await bed.fail(OPENED_AFTER)
    bed.host.says = httpx.Response(200)
    assert (await bed.ask(HOSTS.address("https://other.example"))).status_code == 200
    await bed.refused()


async def test_a_failure_now_and_then_changes_nothing(bed: Bed) -> None:
    for _ in range(50):
        bed.host.says = httpx.ReadError("x")
        await bed.fail(1)
        bed.host.says = httpx.Response(200)
        for _ in range(2):
            assert (await bed.ask()).status_code == 200


async def test_a_host_that_answers_every_other_time_is_no_longer_asked(bed: Bed) -> None:
    for _ in range(10):
        bed.host.says = httpx.Response(200)
        await bed.ask()
        bed.host.says = httpx.ReadError("x")
        await bed.fail(1)
    await bed.refused()


async def test_one_probe_at_a_time_goes_out_ever_more_rarely(bed: Bed) -> None:
    await bed.fail(OPENED_AFTER)
    probes: list[float] = []
    for _ in range(600):
        bed.clock.advance(1)
        before = bed.host.requests
        # The probe hears what all the others hear, so that the object that it was made for is written no more often.
        await bed.refused()
        await bed.refused()
        if bed.host.requests > before:
            probes.append(bed.clock())
            assert bed.host.requests == before + 1
    assert probes[:4] == [5, 15, 35, 60]
    assert len(probes) == 25


async def test_while_a_probe_is_under_way_nobody_else_goes(bed: Bed) -> None:
    await bed.fail(OPENED_AFTER)
    bed.clock.advance(5)
    bed.host.gate.clear()
    probe = asyncio.create_task(bed.ask())
    await yield_to_all()
    bed.clock.advance(15)
    await bed.refused()
    assert bed.host.requests == OPENED_AFTER + 1
    bed.host.says = httpx.Response(200)
    bed.host.gate.set()
    assert (await probe).status_code == 200


async def test_the_message_is_the_same_in_every_process_for_the_whole_outage_and_the_next(bed: Bed) -> None:
    later = Bed()
    later.clock.advance(3)
    messages: set[str] = set()
    for each in (bed, later):
        await each.fail(OPENED_AFTER)
        for _ in range(120):
            each.clock.advance(5)
            messages.add((await each.refused()).message)
        each.clock.advance(25)
        each.host.says = httpx.Response(200)
        await each.ask()
        each.host.says = httpx.ConnectError("down again")
        await each.fail(OPENED_AFTER)
        messages.add((await each.refused()).message)
    assert len(messages) == 1


async def test_the_log_has_when_an_outage_began_and_when_it_ended(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "codecommon.githost.http.outage")
    await bed.fail(OPENED_AFTER)
    for _ in range(10):
        bed.clock.advance(25)
        await bed.refused()
    began = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert began == [("WARNING", "ghe.example does not answer as it should; it is asked by one probe at a time")]
    caplog.clear()
    bed.clock.advance(25)
    bed.host.says = httpx.Response(200)
    for _ in range(10):
        await bed.ask()
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("INFO", "ghe.example answers again")]


async def test_a_request_that_its_caller_gave_up_is_no_failure_and_makes_way_for_the_next_probe(bed: Bed) -> None:
    await bed.fail(OPENED_AFTER - 1)
    bed.host.gate.clear()

    async def given_up() -> None:
        task = asyncio.create_task(bed.ask())
        await yield_to_all()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await given_up()
    assert isinstance((await _open_gate_and_fail(bed))[0], Retryable)
    bed.host.gate.clear()
    bed.clock.advance(5)
    await given_up()
    bed.host.says = httpx.Response(200)
    bed.host.gate.set()
    assert (await bed.ask()).status_code == 200


async def test_a_probe_that_the_budget_does_not_let_pass_says_nothing_of_the_host_and_makes_way_for_the_next(
    bed: Bed,
) -> None:
    await bed.fail(OPENED_AFTER)
    bed.clock.advance(5)
    bed.host.says = Retryable("RateLimited", "no turn yet")
    for _ in range(10):
        assert (await bed.refused()).reason == "RateLimited"
    bed.host.says = httpx.Response(503)
    assert (await bed.refused()).reason == "HostUnavailable"
    bed.clock.advance(10)
    bed.host.says = httpx.Response(200)
    assert (await bed.ask()).status_code == 200


async def _open_gate_and_fail(bed: Bed) -> list[BaseException | httpx.Response]:
    bed.host.gate.set()
    return await bed.fail(1)


async def test_after_an_outage_everybody_is_served_a_few_at_a_time_and_then_all(bed: Bed) -> None:
    await bed.fail(OPENED_AFTER)
    bed.clock.advance(5)
    bed.host.says = httpx.Response(200)
    await bed.ask()
    bed.host.gate.clear()
    bed.host.most_running = 0
    tasks = [asyncio.create_task(bed.ask()) for _ in range(200)]
    at_once: list[int] = []
    while not all(task.done() for task in tasks):
        await yield_to_all()
        at_once.append(bed.host.running)
        bed.host.gate.set()
        bed.host.gate.clear()
    assert at_once[:5] == [4, 8, 16, 32, 140]
    assert {task.result().status_code for task in tasks} == {200}


async def test_who_waits_for_a_place_for_long_comes_back_later(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codecommon.githost.http.outage._LONGEST_WAIT_SECONDS", 0.01)
    await bed.fail(OPENED_AFTER)
    bed.clock.advance(5)
    bed.host.says = httpx.Response(200)
    await bed.ask()
    bed.host.gate.clear()
    async with asyncio.timeout(5):
        first = [asyncio.create_task(bed.ask()) for _ in range(4)]
        await yield_to_all()
        for _ in range(10):
            with pytest.raises(HostBusy):
                await bed.ask()
        bed.host.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*first)} == {200}
    assert (await bed.ask()).status_code == 200


async def test_who_waits_for_a_place_is_told_when_the_host_fails_again(bed: Bed) -> None:
    await bed.fail(OPENED_AFTER)
    bed.clock.advance(5)
    bed.host.says = httpx.Response(200)
    await bed.ask()
    bed.host.says = httpx.ReadTimeout("x")
    before = bed.host.requests
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*(bed.ask() for _ in range(100)), return_exceptions=True)
    assert all(isinstance(outcome, Retryable | httpx.ReadTimeout) for outcome in outcomes)
    assert bed.host.requests - before <= OPENED_AFTER + 4


async def test_open_breakers_and_refusals_can_be_read(bed: Bed) -> None:
    def value(name: str) -> float:
        return REGISTRY.get_sample_value(name, {"host": "ghe.example"}) or 0

    before = value("code_host_refused_requests_total")
    await bed.fail(OPENED_AFTER)
    assert value("code_hosts_down") == 1
    await bed.refused()
    await bed.refused()
    assert value("code_host_refused_requests_total") == before + 2
    bed.clock.advance(5)
    bed.host.says = httpx.Response(200)
    await bed.ask()
    assert value("code_hosts_down") == 0
