"""Which part of the slots a host may have."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import httpx
import pytest

from codecommon.githost.address import HostAddress
from codecommon.githost.github.provider import GithubProvider
from codecommon.githost.http.sender import Sender, attach
from codecommon.githost.http.shares import HostShares
from codecommon.githost.http.trust import WELL_KNOWN
from codecommon.githost.job import Job, working_on
from codecommon.githost.protocol import HostBusy
from codecommon.testing.clock import Clock

PROVIDER = GithubProvider([f"h{n}.example" for n in range(2000)])
SLOTS = 64


def host(number: int) -> HostAddress:
    return PROVIDER.address(f"https://h{number}.example")


class Bed:
    def __init__(self) -> None:
        self.clock = Clock()
        # A request is late as soon as others had a turn.
        self.shares = HostShares(SLOTS, late_after=0.0, clock=self.clock)
        self.objects = ExitStack()

    def begin(self, address: HostAddress, most: int = SLOTS) -> int:
        """Begin as many objects as there is room for, up to ``most``; how many."""
        for begun in range(most):
            try:
                self.objects.enter_context(self.shares.object_at(address))
            except HostBusy:
                return begun
        return most

    async def answers(self, address: HostAddress, *, times: int = 20) -> None:
        for _ in range(times):
            async with self.shares.request_to(address):
                pass

    async def is_late(self, address: HostAddress, *, times: int = 3) -> None:
        for _ in range(times):
            async with self.shares.request_to(address):
                await yield_to_all()

    async def hang(self, address: HostAddress) -> None:
        async with self.shares.request_to(address):
            await asyncio.Event().wait()


async def yield_to_all() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def under_way(tasks: list[asyncio.Task[None]]) -> int:
    await yield_to_all()
    return sum(not task.done() for task in tasks)


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def bed() -> Bed:
    return Bed()


async def test_a_host_that_answers_in_time_may_have_all_slots(bed: Bed) -> None:
    await bed.answers(host(0), times=1)
    assert bed.begin(host(0)) == SLOTS


async def test_a_slow_host_has_a_quarter_and_all_slow_hosts_have_half(bed: Bed) -> None:
    for n in range(4):
        await bed.is_late(host(n))
    assert [bed.begin(host(n)) for n in range(4)] == [16, 16, 0, 0]
    bed.objects.close()
    assert bed.begin(host(3)) == 16


async def test_hosts_that_nothing_is_known_of_have_a_quarter_together_whatever_slow_ones_have(bed: Bed) -> None:
    for n in range(2):
        await bed.is_late(host(n))
        bed.begin(host(n))
    assert [bed.begin(host(n), 10) for n in (2, 3)] == [10, 6]
    await bed.answers(host(3), times=1)
    assert bed.begin(host(3)) == SLOTS


async def test_the_first_late_answer_makes_an_unknown_host_slow(bed: Bed) -> None:
    await bed.is_late(host(0), times=1)
    assert bed.begin(host(0)) == 16


async def test_a_late_answer_now_and_then_makes_no_host_slow(bed: Bed) -> None:
    for _ in range(20):
        await bed.answers(host(0), times=9)
        await bed.is_late(host(0), times=1)
        assert bed.begin(host(0)) == SLOTS
        bed.objects.close()


async def test_a_slow_host_that_answers_in_time_again_may_have_all_slots_again(bed: Bed) -> None:
    await bed.is_late(host(0), times=100)
    await bed.answers(host(0))
    assert bed.begin(host(0)) == SLOTS


async def test_of_the_late_requests_of_a_host_only_its_share_goes_on(bed: Bed) -> None:
    await bed.answers(host(0))
    tasks = [asyncio.create_task(bed.hang(host(0))) for _ in range(SLOTS)]
    assert await under_way(tasks) == 16
    assert {type(task.exception()) for task in tasks if task.done()} == {HostBusy}
    await end(tasks)
    again = [asyncio.create_task(bed.hang(host(0))) for _ in range(SLOTS)]
    assert await under_way(again) == 16
    await end(again)


async def test_a_few_late_requests_go_on_however_many_other_hosts_have(bed: Bed) -> None:
    slow = [asyncio.create_task(bed.hang(host(n))) for n in range(2) for _ in range(SLOTS)]
    assert await under_way(slow) == 32
    await bed.answers(host(9))
    late = [asyncio.create_task(bed.hang(host(9))) for _ in range(SLOTS)]
    assert await under_way(late) == 4
    assert await under_way(slow) == 32
    await end([*slow, *late])


async def test_a_failure_that_comes_in_time_keeps_nobody_waiting(bed: Bed) -> None:
    with pytest.raises(httpx.ConnectError):
        async with bed.shares.request_to(host(0)):
            raise httpx.ConnectError("down")
    assert bed.begin(host(0)) == SLOTS


async def test_who_comes_back_waits_the_longer_the_longer_the_host_takes(bed: Bed) -> None:
    def wait(times: int) -> float:
        waits: list[float] = []
        for _ in range(times):
            with pytest.raises(HostBusy) as busy, bed.shares.object_at(host(0)):
                pass
            assert busy.value.after is not None
            waits.append(busy.value.after.total_seconds())
        assert waits == sorted(waits)
        return waits[-1]

    await bed.is_late(host(0))
    bed.begin(host(0))
    bed.clock.advance(2)
    assert 1 < wait(16) < 3
    # None of them has ended, and it shows how long they take all the same.
    bed.clock.advance(20)
    assert 15 < wait(16) <= 30
    assert wait(1000) <= 30


async def test_what_is_known_is_bounded_and_a_host_that_is_asked_is_not_forgotten(bed: Bed) -> None:
    await bed.is_late(host(0))
    bed.begin(host(0))
    for n in range(1, 2000):
        await bed.answers(host(n), times=1)
    assert bed.begin(host(0)) == 0
    assert len(bed.shares._hosts) == 1024  # pyright: ignore[reportPrivateUsage]


# ---- as a layer


async def test_an_object_that_has_begun_goes_on_and_holds_its_slot_until_its_job_ends(bed: Bed) -> None:
    await bed.is_late(host(0))
    layer = bed.shares.layer(httpx.MockTransport(lambda _: httpx.Response(200)))

    async def ask() -> httpx.Response:
        request = httpx.Request("GET", "https://h0.example/api/v3/user")
        attach(request, Sender(host(0), ("cluster", "uid", "1"), WELL_KNOWN))
        return await layer.handle_async_request(request)

    with working_on(Job("desired", "object", "w")):
        await ask()
        assert bed.begin(host(0)) == 15
        for _ in range(3):
            await ask()
        with working_on(Job("desired", "another", "w")), pytest.raises(HostBusy):
            await ask()
    await ask()
    assert bed.begin(host(0)) == 1
    await layer.aclose()


async def test_a_task_that_outlives_its_job_holds_a_slot_while_it_asks(bed: Bed) -> None:
    await bed.is_late(host(0))
    answer = asyncio.Event()

    async def answering(request: httpx.Request) -> httpx.Response:
        await answer.wait()
        return httpx.Response(200)

    layer = bed.shares.layer(httpx.MockTransport(answering))
    request = httpx.Request("GET", "https://h0.example/api/v3/user")
    attach(request, Sender(host(0), ("cluster", "uid", "1"), WELL_KNOWN))
    with working_on(Job("desired", "object", "w")):
        task = asyncio.create_task(layer.handle_async_request(request))
    await yield_to_all()
    assert bed.begin(host(0)) == 15
    answer.set()
    await task
    assert bed.begin(host(0)) == 1
