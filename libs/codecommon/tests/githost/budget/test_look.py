from __future__ import annotations

import asyncio

from codecommon.githost.budget.look import Looks
from codecommon.githost.budget.shared import BudgetUnavailable


async def test_who_waits_for_a_look_shares_its_failure_and_who_comes_later_looks_anew() -> None:
    looks, timed_out, made = Looks(), asyncio.Event(), 0

    async def look() -> None:
        nonlocal made
        async with looks.turn():
            made += 1
            if made == 1:
                await timed_out.wait()
                raise BudgetUnavailable

    async with asyncio.timeout(5):
        waiting = [asyncio.create_task(look()) for _ in range(20)]
        await asyncio.sleep(0)
        timed_out.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [BudgetUnavailable] * 20
        assert made == 1
        await look()
    assert made == 2
