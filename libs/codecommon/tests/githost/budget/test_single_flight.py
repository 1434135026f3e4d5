from __future__ import annotations

import asyncio

from codecommon.githost.budget.shared import BudgetUnavailable, SingleFlight


async def test_tasks_that_wait_for_a_lookup_share_its_failure_and_a_later_one_looks_up_again() -> None:
    flight, timed_out, made = SingleFlight(), asyncio.Event(), 0

    async def look_up() -> None:
        nonlocal made
        async with flight.turn():
            made += 1
            if made == 1:
                await timed_out.wait()
                raise BudgetUnavailable

    async with asyncio.timeout(5):
        waiting = [asyncio.create_task(look_up()) for _ in range(20)]
        await asyncio.sleep(0)
        timed_out.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [BudgetUnavailable] * 20
        assert made == 1
        await look_up()
    assert made == 2
