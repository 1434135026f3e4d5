"""How GraphQL requests pass the hub (hub-contract.md §6.5). The real gateway is in test_devhub_tenants.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hub_bed import Bed, answer, hub_bed


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with hub_bed(tmp_path) as made:
        made.hub.graphql_url = made.provider.url
        yield made


async def test_a_query_goes_to_the_gateway_of_the_cluster_with_the_callers_token(bed: Bed) -> None:
    async with bed.client.post("/graphql/2team", json={}, headers={"Authorization": "Bearer mine"}) as response:
        assert response.status == 200
    assert bed.provider.last.line == "POST /api/clusters/2team/graphql HTTP/1.1"
    assert bed.provider.last.header("Authorization") == "Bearer mine"


async def test_the_token_may_stand_in_the_query(bed: Bed) -> None:
    async with bed.client.post("/graphql/2team?token=mine", json={}) as response:
        assert response.status == 200
    assert bed.provider.last.header("Authorization") == "Bearer mine"


async def test_without_a_token_nothing_is_asked(bed: Bed) -> None:
    async with bed.client.post("/graphql/2team", json={}) as response:
        assert response.status == 401
    assert bed.provider.requests == []


async def test_no_schema_is_not_found(bed: Bed) -> None:
    bed.provider.respond = lambda received: answer(b"no schema", status="404 Not Found")
    async with bed.client.post("/graphql/2team", json={}, headers={"Authorization": "Bearer mine"}) as response:
        assert response.status == 404
    bed.hub.graphql_url = None
    async with bed.client.post("/graphql/2team", json={}, headers={"Authorization": "Bearer mine"}) as response:
        assert response.status == 404


async def test_events_of_a_subscription_pass_one_by_one(bed: Bed) -> None:
    more = asyncio.Event()

    async def two_events(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nevent: next\n\n")
        await more.wait()
        writer.write(b"event: complete\n\n")
        await writer.drain()

    bed.provider.stream = two_events
    headers = {"Authorization": "Bearer mine", "Accept": "text/event-stream"}
    async with bed.client.post("/graphql/2team", json={}, headers=headers) as response:
        assert await response.content.readuntil(b"\n\n") == b"event: next\n\n"
        more.set()
        assert await response.content.read() == b"event: complete\n\n"
    assert bed.provider.last.header("Accept") == "text/event-stream"
