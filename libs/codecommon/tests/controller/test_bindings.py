"""One look at a workspace serves the objects that come together."""

from __future__ import annotations

import asyncio

import pytest

from codecommon.api.results import Retryable
from codecommon.controller.bindings import FRESH_SECONDS, BoundWorkspaces, is_leaving
from codecommon.testing.builders import api_binding
from codecommon.testing.clock import Clock
from codecommon.testing.objects import InMemoryKcp, workspace


def looks(kcp: InMemoryKcp) -> int:
    return sum(request.resource == "apibindings" for request in kcp.requests)


async def test_those_who_come_together_look_once_and_each_workspace_for_itself(kcp: InMemoryKcp) -> None:
    bound = BoundWorkspaces(Clock())
    kcp.add(api_binding(), "c1")
    kcp.add(api_binding(), "c2")
    assert all(await asyncio.gather(*(bound.confirm(kcp.objects(workspace("c1"))) for _ in range(20))))
    assert looks(kcp) == 1
    assert await bound.confirm(kcp.objects(workspace("c2")))
    assert looks(kcp) == 2


async def test_what_was_seen_too_long_ago_is_looked_at_again(kcp: InMemoryKcp) -> None:
    clock = Clock()
    bound, objects = BoundWorkspaces(clock), kcp.objects(workspace())
    kcp.add(api_binding())
    await bound.confirm(objects)
    clock.advance(FRESH_SECONDS + 1)
    kcp.remove("apibindings", "code")
    assert not await bound.confirm(objects)
    assert looks(kcp) == 2


async def test_that_a_workspace_leaves_is_looked_at_each_time(kcp: InMemoryKcp) -> None:
    bound, objects = BoundWorkspaces(Clock()), kcp.objects(workspace())
    kcp.add(api_binding(terminating=True))
    assert not await bound.confirm(objects)
    kcp.add(api_binding("another"))
    assert await bound.confirm(objects)


async def test_without_any_binding_nothing_is_decided(kcp: InMemoryKcp) -> None:
    kcp.add(api_binding(export="of.somebody.else"))
    with pytest.raises(Retryable, match="BindingNotVisible"):
        await is_leaving(kcp.objects(workspace()))
