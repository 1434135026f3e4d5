import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from codecommon.process import health
from codecommon.process.health import Readiness
from codecommon.process.liveness import Liveness

Get = Callable[[str], Awaitable[tuple[int, Any]]]


@pytest.fixture
def readiness() -> Readiness:
    return Readiness(ping_seconds=0.2)


@pytest.fixture
async def get(readiness: Readiness) -> AsyncIterator[Get]:
    async with (
        health.serve(readiness, Liveness(), "", 0) as (host, port),
        aiohttp.ClientSession(f"http://{host}:{port}") as session,
    ):

        async def get(path: str) -> tuple[int, Any]:
            async with session.get(path) as response:
                json = response.content_type == "application/json"
                return response.status, await (response.json() if json else response.text())

        yield get


async def fine() -> None:
    pass


async def broken() -> None:
    raise ConnectionRefusedError("10.0.0.7:4222 refused hunter2")


async def silent() -> None:
    await asyncio.Event().wait()


async def test_a_process_is_not_ready_before_start_up_is_complete(readiness: Readiness, get: Get) -> None:
    readiness.ping("nats", fine)

    assert await get("/readyz") == (503, {"ready": False, "phase": "starting", "pings": {"nats": "ok"}})


async def test_a_process_is_ready_when_every_ping_answers(readiness: Readiness, get: Get) -> None:
    readiness.ping("nats", fine)
    readiness.ping("kcp", fine)
    readiness.phase = "started"

    assert await get("/readyz") == (200, {"ready": True, "phase": "started", "pings": {"nats": "ok", "kcp": "ok"}})


async def test_one_failing_ping_is_named_without_the_detail_of_its_error(readiness: Readiness, get: Get) -> None:
    readiness.ping("nats", broken)
    readiness.ping("kcp", fine)
    readiness.phase = "started"

    status, body = await get("/readyz")

    assert status == 503
    assert body["pings"] == {"nats": "ConnectionRefusedError", "kcp": "ok"}


async def test_a_ping_that_does_not_answer_fails_in_bounded_time(readiness: Readiness, get: Get) -> None:
    readiness.ping("nats", silent)
    readiness.phase = "started"

    async with asyncio.timeout(5):
        status, body = await get("/readyz")

    assert (status, body["pings"]) == (503, {"nats": "no answer within 0.2 s"})


async def test_a_process_that_stops_is_not_ready(readiness: Readiness, get: Get) -> None:
    readiness.phase = "stopping"

    assert (await get("/readyz"))[0] == 503


async def test_a_change_of_a_ping_is_logged_once(readiness: Readiness, caplog: pytest.LogCaptureFixture) -> None:
    readiness.phase = "started"
    readiness.ping("nats", broken)
    with caplog.at_level("INFO"):
        await readiness.check()
        await readiness.check()
        readiness.ping("nats", fine)
        await readiness.check()

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


async def test_a_process_whose_loop_turns_is_alive(get: Get) -> None:
    assert await get("/livez") == (200, {"alive": True, "loopLagSeconds": 0.0})


async def test_metrics_are_served_in_prometheus_form(get: Get) -> None:
    status, text = await get("/metrics")

    assert status == 200
    assert "python_info" in text


async def test_a_free_port_is_on_loopback_only(readiness: Readiness) -> None:
    async with health.serve(readiness, Liveness(), "", 0) as (host, _):
        assert host == "127.0.0.1"


async def test_a_complaint_is_shown_while_there_is_one_and_the_process_is_ready(readiness: Readiness, get: Get) -> None:
    complaint: str | None = "run init again"
    readiness.complaint("schemas", lambda: complaint)
    readiness.complaint("fine", lambda: None)
    readiness.phase = "started"
    degraded = {"ready": True, "phase": "started", "pings": {}, "degraded": {"schemas": "run init again"}}
    assert await get("/readyz") == (200, degraded)
    complaint = None
    assert await get("/readyz") == (200, {"ready": True, "phase": "started", "pings": {}})
