"""One look at a workspace serves the objects that come together."""

from __future__ import annotations

import asyncio

from codecommon.api.meta import Workspace
from codecommon.controller.bindings import FRESH_SECONDS, Staying
from codecommon.testing.clock import Clock

ONE = Workspace("https://kcp/services/apiexport/x/y", "one")
TWO = Workspace("https://kcp/services/apiexport/x/y", "two")


class Looks:
    def __init__(self, answer: bool = False) -> None:
        self.answer = answer
        self.count = 0

    async def __call__(self) -> bool:
        self.count += 1
        await asyncio.sleep(0)
        return self.answer


async def test_those_who_come_together_look_once_and_each_workspace_for_itself() -> None:
    staying, looks = Staying(Clock()), Looks()
    assert all(await asyncio.gather(*(staying.confirm(ONE, looks) for _ in range(20))))
    assert looks.count == 1
    assert await staying.confirm(TWO, looks)
    assert looks.count == 2


async def test_what_was_seen_too_long_ago_is_looked_at_again() -> None:
    clock = Clock()
    staying, looks = Staying(clock), Looks()
    await staying.confirm(ONE, looks)
    clock.advance(FRESH_SECONDS + 1)
    looks.answer = True
    assert not await staying.confirm(ONE, looks)
    assert looks.count == 2


async def test_that_a_workspace_leaves_is_looked_at_each_time() -> None:
    staying, looks = Staying(Clock()), Looks(answer=True)
    assert not await staying.confirm(ONE, looks)
    looks.answer = False
    assert await staying.confirm(ONE, looks)
