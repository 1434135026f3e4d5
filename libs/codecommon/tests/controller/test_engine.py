"""The engine with a real nats-server and kcp in memory: what becomes of a message, and of the object it speaks of."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from codecommon.api.annotations import PAUSED
from codecommon.api.kinds import REPOSITORIES
from codecommon.api.meta import Condition
from codecommon.api.repository import Repository
from codecommon.api.results import NotReady, Outcome, Released, Retryable, Terminal, Unchanged
from codecommon.controller.context import ReconcileContext
from codecommon.controller.engine import Timing
from codecommon.controller.message_worker import WorkerTiming
from codecommon.controller.metrics import MESSAGES_SET_ASIDE, RESYNC_PASSES
from codecommon.githost.job import Job, current_job
from codecommon.githost.protocol import HostUnavailable
from codecommon.kcp.client import JsonObject, KcpError
from codecommon.messaging import bus as bus_module
from codecommon.messaging.bus import Bus
from codecommon.messaging.events import EventReason, Versions
from codecommon.process.backoff import Backoff
from codecommon.testing.builders import api_binding, deleting, event_for, repository_object
from codecommon.testing.engine import (
    SERVICE,
    Calls,
    Gate,
    Handler,
    acked,
    deliver_again_after,
    is_fine,
    make_engine,
    parked,
    put,
    queued,
    raising,
    stored,
    until,
    working,
)
from codecommon.testing.harness import conditions, message
from codecommon.testing.objects import InMemoryKcp, Request

pytestmark = pytest.mark.nats


# ---- what a result means


RESULTS = {
    "a status": (is_fine, {"Ready": ("True", "Reconciled")}),
    "Terminal": (raising(Terminal("NameTaken", "m")), {"Ready": ("False", "NameTaken"), "Stalled": ("True", "NameTaken")}),
    "NotReady": (
        raising(NotReady("ConnectionNotReady", "m")),
        {"Ready": ("False", "ConnectionNotReady"), "Reconciling": ("True", "ConnectionNotReady")},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("handler", "wanted"), RESULTS.values(), ids=RESULTS)
async def test_a_result_that_waits_for_nobody_is_written_and_acked(
    bus: Bus, kcp: InMemoryKcp, handler: Handler, wanted: dict[str, tuple[str, str]]
) -> None:
    calls = Calls(handler)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert len(calls.names) == 1
    assert conditions(stored(kcp)) == wanted
    assert stored(kcp)["status"]["observedGeneration"] == 1


async def test_retryable_is_written_and_delivered_again_with_growing_delay(bus: Bus, kcp: InMemoryKcp) -> None:
    calls = Calls(raising(*[Retryable("RateLimited", "m")] * 4))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: len(calls.names) == 1)
        await until(lambda: conditions(stored(kcp)).get("Reconciling") == ("True", "RateLimited"))
        await until(lambda: acked(bus))
    gaps = [after - before for before, after in zip(calls.times, calls.times[1:], strict=False)]
    assert len(gaps) == 4
    assert all(gap >= wanted for gap, wanted in zip(gaps, (0.05, 0.1, 0.2, 0.4), strict=True)), gaps
    assert conditions(stored(kcp)) == {"Ready": ("True", "Reconciled")}


async def test_a_reserved_time_is_kept_to_the_moment_and_does_not_count_as_a_failure(
    bus: Bus, kcp: InMemoryKcp
) -> None:
    reserved = Retryable("RateLimited", "waiting until then", after=timedelta(seconds=0.2), exact=True)
    calls = Calls(raising(*[reserved] * 3))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls, backoff=Backoff(60.0, 60.0)):
        await until(lambda: acked(bus))
    gaps = [after - before for before, after in zip(calls.times, calls.times[1:], strict=False)]
    assert len(gaps) == 3
    assert all(gap >= 0.2 for gap in gaps), gaps


async def test_the_first_failure_after_many_times_that_the_host_named_is_tried_again_soon(
    bus: Bus, kcp: InMemoryKcp
) -> None:
    named = [Retryable("HostUnavailable", "m", after=timedelta(seconds=0.01)) for _ in range(12)]
    calls = Calls(raising(*named, Retryable("HostUnavailable", "a hiccup")))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls, backoff=Backoff(0.01, 3600.0)):
        await until(lambda: acked(bus))
    assert len(calls.names) == 14


async def test_drift_passes_are_counted_by_whether_they_could_be_done(bus: Bus, kcp: InMemoryKcp) -> None:
    def counted(result: str) -> float:
        return REGISTRY.get_sample_value("code_resync_passes_total", {"result": result}) or 0.0

    before = {result: counted(result) for result in ("done", "put_off")}
    for _ in range(2):
        await bus.publish(replace(event_for(put(kcp)), reason="resync"))
        async with working(bus, kcp, Calls(raising(Retryable("RateLimited", "m")))):
            await until(lambda: acked(bus))
    await bus.publish(replace(event_for(put(kcp)), reason="resync"))
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: acked(bus))
    assert {result: counted(result) - was for result, was in before.items()} == {"done": 1.0, "put_off": 2.0}


async def test_what_alerts_count_is_there_from_the_start_so_that_the_first_one_is_an_increase(
    bus: Bus, kcp: InMemoryKcp
) -> None:
    MESSAGES_SET_ASIDE.clear()
    RESYNC_PASSES.clear()
    async with working(bus, kcp, Calls(is_fine)):
        for why in ("undecodable", "poison"):
            labels = {"service": SERVICE, "why": why}
            await until(lambda labels=labels: sample("code_messages_set_aside_total", **labels) == 0.0)
        for result in ("done", "put_off"):
            assert sample("code_resync_passes_total", result=result) == 0.0


def sample(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_a_message_that_was_put_back_is_not_kept_alive_any_more(bus: Bus, kcp: InMemoryKcp) -> None:
    # A sign of life after the answer would put the message off by the server's whole ack_wait.
    calls = Calls(raising(*[Retryable("RateLimited", "m")] * 8))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls, backoff=Backoff(0.01, 0.01), timing=Timing(fetch=0.1, renew=0.001)):
        await until(lambda: acked(bus))
    assert len(calls.names) == 9


@pytest.mark.parametrize(("reason", "urgency"), [("revalidate", "desired"), ("resync", "drift")])
async def test_a_reconciler_works_on_the_job_of_its_message(
    bus: Bus, kcp: InMemoryKcp, reason: EventReason, urgency: str
) -> None:
    seen: list[Job] = []

    async def note(ctx: ReconcileContext[Repository]) -> Outcome:
        seen.append(current_job())
        return await is_fine(ctx)

    event = replace(event_for(put(kcp)), reason=reason)
    await bus.publish(event)
    async with working(bus, kcp, Calls(note)):
        await until(lambda: acked(bus))
    assert [(job.urgency, job.uid, job.workspace) for job in seen] == [(urgency, event.uid, event.cluster)]


async def test_a_time_that_an_object_set_is_not_missed_though_only_the_resync_tells_of_it(
    bus: Bus, kcp: InMemoryKcp
) -> None:
    seen: list[str] = []

    async def first_limited(ctx: ReconcileContext[Repository]) -> Outcome:
        seen.append(current_job().urgency)
        if len(seen) == 1:
            raise Retryable("RateLimited", "m")
        return await is_fine(ctx)

    await bus.publish(replace(event_for(put(kcp)), reason="resync"))
    async with working(bus, kcp, Calls(first_limited), always_due=True):
        await until(lambda: acked(bus))
    assert seen == ["desired", "desired"]


async def test_who_waits_for_somebody_has_an_appointment_too(bus: Bus, kcp: InMemoryKcp) -> None:
    calls = Calls(raising(NotReady("InvitationPending", "m", requeue_after=timedelta(seconds=1))))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert len(calls.names) == 2


async def test_what_has_nothing_to_write_has_an_appointment_too_and_leaves_status_alone(
    bus: Bus, kcp: InMemoryKcp
) -> None:
    async def unchanged(ctx: ReconcileContext[Any]) -> Outcome:
        return Unchanged(requeue_after=timedelta(seconds=1)) if len(calls.names) == 1 else Unchanged()

    calls = Calls(unchanged)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert len(calls.names) == 2
    assert kcp.writes("repositories") == []


@pytest.mark.parametrize(("resync", "kept"), [(timedelta(minutes=10), False), (timedelta(hours=6), True)])
async def test_what_is_due_before_the_next_resync_has_an_appointment(
    bus: Bus, kcp: InMemoryKcp, resync: timedelta, kept: bool
) -> None:
    calls = Calls(raising(NotReady("InvitationPending", "m", requeue_after=timedelta(hours=2))))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls, resync=resync) as engine:
        await until(lambda: len(calls.names) == 1 and engine.in_flight == 0)
        assert await acked(bus) is not kept


async def test_an_exception_that_nobody_foresaw_shows_its_type_and_nothing_else(bus: Bus, kcp: InMemoryKcp) -> None:
    calls = Calls(raising(LookupError("the token is ghp_0123456789")))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: parked(bus))
    assert conditions(stored(kcp))["Reconciling"] == ("True", "InternalError")
    assert "LookupError" in message(stored(kcp), "Reconciling")
    assert "token" not in message(stored(kcp), "Reconciling")


async def test_an_exception_that_nobody_foresaw_is_not_tried_again_at_once(bus: Bus, kcp: InMemoryKcp) -> None:
    calls = Calls(raising(*[LookupError("m")] * 5))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: parked(bus))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await until(lambda: len(calls.names) > 1)


async def test_a_released_object_loses_our_finalizer_and_its_message(bus: Bus, kcp: InMemoryKcp) -> None:
    async def release(ctx: ReconcileContext[Repository]) -> Outcome:
        return Released()

    await bus.publish(event_for(kcp.add(deleting(repository_object()))))
    async with working(bus, kcp, Calls(release)):
        await until(lambda: acked(bus))
    assert kcp.stored("repositories", "site") is None


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        (repository_object(metadata={"annotations": {PAUSED: "true"}}), "paused"),
        (repository_object(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}), "not ours"),
    ],
    ids=["paused", "deleting without our finalizer"],
)
async def test_what_is_not_for_us_to_touch_is_acked_untouched(
    bus: Bus, kcp: InMemoryKcp, raw: JsonObject, left: str
) -> None:
    calls = Calls(is_fine)
    await bus.publish(event_for(kcp.add(raw)))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert calls.names == []
    assert kcp.writes("repositories") == []


async def test_a_finalizer_that_others_took_off_comes_back_whatever_the_host_says(bus: Bus, kcp: InMemoryKcp) -> None:
    raw = put(kcp, status={"repoID": "1001"})
    assert not raw["metadata"].get("finalizers")
    await bus.publish(event_for(raw))
    async with working(bus, kcp, Calls(raising(Terminal("CredentialInvalid", "m")))):
        await until(lambda: acked(bus))
    assert stored(kcp)["metadata"]["finalizers"] == [REPOSITORIES.finalizer]


async def test_a_paused_object_is_still_released(bus: Bus, kcp: InMemoryKcp) -> None:
    async def release(ctx: ReconcileContext[Repository]) -> Outcome:
        return Released()

    await bus.publish(event_for(kcp.add(deleting(repository_object(metadata={"annotations": {PAUSED: "true"}})))))
    async with working(bus, kcp, Calls(release)):
        await until(lambda: kcp.stored("repositories", "site") is None)


async def test_an_object_that_is_gone_is_acked(bus: Bus, kcp: InMemoryKcp) -> None:
    raw = put(kcp)
    kcp.remove("repositories", "site")
    await bus.publish(event_for(raw))
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: acked(bus))


async def test_the_object_is_read_at_the_version_of_the_event(bus: Bus, kcp: InMemoryKcp) -> None:
    raw = put(kcp)
    await bus.publish(event_for(raw))
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: acked(bus))
    read = next(r for r in kcp.requests if not r.writes)
    assert read.params == {"resourceVersion": raw["metadata"]["resourceVersion"]}


async def test_what_is_left_of_the_events_of_an_object_does_not_touch_another_of_its_name(
    bus: Bus, kcp: InMemoryKcp
) -> None:
    calls = Calls(is_fine)
    before = event_for(put(kcp))
    kcp.remove("repositories", "site")
    await bus.publish(before)
    async with working(bus, kcp, calls):
        another = put(kcp)
        await until(lambda: parked(bus))
        assert calls.names == []
        await bus.publish(event_for(another))
        await until(lambda: acked(bus))
    assert calls.names == ["c1/site"]


@pytest.mark.parametrize("own", [True, False])
async def test_an_object_whose_own_event_does_not_come_is_handled_with_what_kcp_says_now(
    bus: Bus, kcp: InMemoryKcp, own: bool
) -> None:
    versions: list[Versions] = []

    async def handler(ctx: ReconcileContext[Repository]) -> Outcome:
        versions.append(ctx.versions)
        return await is_fine(ctx)

    known = Versions(connection="1", secret="2")
    raw = put(kcp)
    event = event_for(raw, versions=known)
    await bus.publish(event if own else replace(event, uid="uid-before"))
    async with working(bus, kcp, Calls(handler), now=lambda: datetime.now(UTC) + timedelta(minutes=1)):
        await until(lambda: acked(bus))
    assert versions == [known if own else Versions()]


# ---- kcp fails


@pytest.mark.parametrize(
    "failure",
    [KcpError(503, "ServiceUnavailable", "m"), aiohttp.ClientConnectionError(), TimeoutError()],
    ids=["503", "no connection", "no answer"],
)
@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_a_kcp_that_fails_puts_the_message_back(
    bus: Bus, kcp: InMemoryKcp, failure: Exception, method: str
) -> None:
    def fail() -> None:
        raise failure

    calls = Calls(is_fine)
    kcp.once(lambda request: request.method == method, fail)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert stored(kcp)["status"]["repoID"] == "7"


async def test_a_workspace_that_is_gone_is_no_warning_and_leaves_nothing_once_it_is_purged(
    bus: Bus, kcp: InMemoryKcp, caplog: pytest.LogCaptureFixture
) -> None:
    kcp.refused.add("repositories")
    events = [event_for(put(kcp, name)) for name in ("one", "two", "three")]
    timing = Timing(fetch=0.1, renew=0.1, worker=WorkerTiming(warn_from=0.0))

    async def purge() -> None:
        await bus.purge("c1", await bus.last_sequence())

    purging: list[asyncio.Task[None]] = []

    async def purged_at_work() -> bool:
        return bool(purging) and purging[0].done() and await acked(bus)

    # The workspace goes while its objects are read, and their messages go before kcp has answered.
    reading = kcp.request

    async def request(method: str, url: str, **given: Any) -> JsonObject:
        if "/repositories/" in url:
            if not purging:
                purging.append(asyncio.create_task(purge()))
            await asyncio.shield(purging[0])
        return await reading(method, url, **given)

    kcp.request = request  # type: ignore[method-assign]
    for event in events:
        await bus.publish(event)
    async with working(bus, kcp, Calls(is_fine), timing=timing) as engine:
        await until(purged_at_work)
        await until(lambda: engine.in_flight == 0)
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []
    info = await bus.js.consumer_info(bus_module.EVENTS_STREAM, "repository-svc")
    assert (info.num_ack_pending, info.num_pending) == (0, 0)


async def test_a_message_whose_endpoint_went_with_its_last_workspace_is_acked_without_a_warning(
    bus: Bus, kcp: InMemoryKcp, caplog: pytest.LogCaptureFixture
) -> None:
    calls = Calls(is_fine)
    raw = put(kcp)
    await bus.publish(event_for(raw))
    async with working(bus, kcp, calls, timing=Timing(0.1, 0.1, WorkerTiming(warn_from=0.0))):
        await until(lambda: acked(bus))
        # What kcp has listed once is not asked for before each request.
        kcp.endpoints.clear()
        kcp.refused.add("repositories")
        await bus.publish(replace(event_for(raw), reason="revalidate"))
        await until(lambda: acked(bus))
    assert calls.names == ["c1/site"]
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


async def test_what_kcp_forbids_in_a_bound_workspace_is_put_back_and_becomes_a_warning(
    bus: Bus, kcp: InMemoryKcp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    kcp.refused.add("repositories")
    await bus.publish(event_for(put(kcp)))
    # The pauses are 0.05, 0.1, 0.2 and 0.4 s, and up to a quarter more.
    timing = Timing(fetch=0.1, renew=0.1, worker=WorkerTiming(warn_from=0.2))
    async with working(bus, kcp, Calls(is_fine), timing=timing):
        await until(lambda: any(record.levelname == "WARNING" for record in caplog.records))
        refusals = [record.levelname for record in caplog.records if "kcp refused" in record.message]
        assert refusals[:3] == ["INFO", "INFO", "WARNING"], "what the watcher may purge any moment is no warning yet"
        assert await queued(bus) == 1
        kcp.refused.clear()
        await until(lambda: acked(bus))
    assert stored(kcp)["status"]["repoID"] == "7"


async def test_an_answer_that_no_model_fits_does_not_end_the_process(bus: Bus, kcp: InMemoryKcp) -> None:
    broken = put(kcp, "broken")
    kcp.edit("repositories", "broken", {"spec": {"visibility": "sideways"}})
    calls = Calls(is_fine)
    await bus.publish(event_for(broken))
    async with working(bus, kcp, calls):
        await until(lambda: parked(bus))
        await bus.publish(event_for(put(kcp)))
        await until(lambda: calls.names == ["c1/site"])


async def test_an_id_from_the_host_survives_conflicts(bus: Bus, kcp: InMemoryKcp) -> None:
    bumps = 0

    def somebody_writes(request: Any) -> None:
        nonlocal bumps
        if request.subresource == "status" and bumps < 2:
            bumps += 1
            kcp.edit("repositories", "site", {"metadata": {"labels": {"bump": str(bumps)}}})

    kcp.before.append(somebody_writes)
    calls = Calls(is_fine)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert stored(kcp)["status"]["repoID"] == "7"
    assert len(calls.names) == 1


async def test_an_object_that_keeps_meeting_conflicts_is_put_back(bus: Bus, kcp: InMemoryKcp) -> None:
    bumps = 0

    def somebody_writes(request: Any) -> None:
        nonlocal bumps
        if request.writes and bumps < 20:
            bumps += 1
            kcp.edit("repositories", "site", {"metadata": {"labels": {"bump": str(bumps)}}})

    kcp.before.append(somebody_writes)
    calls = Calls(is_fine)
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert stored(kcp)["status"]["repoID"] == "7"


async def test_an_endpoint_that_kcp_does_not_list_is_sent_nothing(bus: Bus, kcp: InMemoryKcp) -> None:
    raw = put(kcp)
    calls = Calls(is_fine)
    await bus.publish(event_for(raw, endpoint="https://evil.example/services/apiexport/p1/code"))
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert kcp.requests == []
    assert calls.names == []


# ---- messages


@pytest.mark.parametrize(
    "body",
    [b"not json", b"[]", b'{"specversion":"1.0"}', b'{"specversion":"1.0","type":"another"}'],
    ids=["no JSON", "no object", "no event", "another type"],
)
async def test_a_message_that_cannot_be_decoded_is_set_aside_for_people(
    bus: Bus, kcp: InMemoryKcp, body: bytes
) -> None:
    await bus.js.publish("code.events.repositories.c1.site", body)
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: acked(bus))
    dead = await bus.js.get_last_msg(bus_module.DEAD_STREAM, "code.dead.code.events.repositories.c1.site")
    assert dead.data == body


async def test_an_event_under_the_subject_of_another_object_is_set_aside(bus: Bus, kcp: InMemoryKcp) -> None:
    event = event_for(put(kcp))
    body = event.encode("2026-01-01T00:00:00Z").replace(b'"resource":"repositories"', b'"resource":"connections"')
    await bus.js.publish("code.events.repositories.c1.site", body)
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: acked(bus))
    assert await queued(bus, bus_module.DEAD_STREAM) == 1


async def test_what_kcp_refuses_for_many_objects_is_one_line_in_the_log(
    bus: Bus, kcp: InMemoryKcp, caplog: pytest.LogCaptureFixture
) -> None:
    refused: list[str] = []

    def refuse(request: Request) -> None:
        refused.append(request.name or "")
        raise KcpError(400, "BadRequest", f"no {request.name} today")

    kcp.before.append(refuse)
    for n in range(5):
        await bus.publish(event_for(put(kcp, f"site{n}")))
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: len(set(refused)) == 5)
        kcp.before.clear()
        await until(lambda: acked(bus))
    assert len([r for r in caplog.records if r.levelname == "WARNING" and "kcp refused" in r.message]) == 1


async def test_a_newer_event_replaces_a_parked_one_and_is_handled_at_once(bus: Bus, kcp: InMemoryKcp) -> None:
    calls = Calls(raising(Retryable("RateLimited", "m", after=timedelta(hours=1))))
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, calls):
        await until(lambda: parked(bus))
        edited = kcp.edit("repositories", "site", {"spec": {"description": "new"}})
        await bus.publish(event_for(edited))
        await until(lambda: acked(bus))
    assert len(calls.names) == 2
    assert stored(kcp)["status"]["observedGeneration"] == 2


@pytest.mark.slow
async def test_a_message_whose_handling_ended_five_processes_is_set_aside(
    bus: Bus, kcp: InMemoryKcp, caplog: pytest.LogCaptureFixture
) -> None:
    await deliver_again_after(bus, 0.6)
    await bus.publish(event_for(put(kcp)))
    gate = Gate()
    calls = Calls(gate)
    for death in range(1, 6):
        process = asyncio.create_task(
            make_engine(bus, kcp, calls, timing=Timing(fetch=0.1, renew=60)).run(asyncio.Event())
        )
        await until(lambda expected=death: len(calls.names) == expected)
        process.cancel()
        await asyncio.gather(process, return_exceptions=True)

    async with working(bus, kcp, calls):
        await until(lambda: "set aside" in caplog.text)
        await until(lambda: parked(bus))
        edited = kcp.edit("repositories", "site", {"spec": {"description": "new"}})
        gate.opened.set()
        await bus.publish(event_for(edited))
        await until(lambda: acked(bus))
    assert len(calls.names) == 6


async def test_a_living_process_that_gets_its_message_again_and_again_is_no_death(
    bus: Bus, kcp: InMemoryKcp, caplog: pytest.LogCaptureFixture
) -> None:
    await deliver_again_after(bus, 0.1)
    await bus.publish(event_for(put(kcp)))
    gate = Gate()
    async with working(bus, kcp, Calls(gate), timing=Timing(fetch=0.1, renew=60)) as engine:
        await until(lambda: engine.in_flight >= 9 or "set aside" in caplog.text)
        assert "set aside" not in caplog.text
        gate.opened.set()
        await until(lambda: acked(bus))
    assert "set aside" not in caplog.text
    assert stored(kcp)["status"]["repoID"] == "7"


async def test_a_message_that_was_put_back_by_living_processes_is_no_death(
    bus: Bus, kcp: InMemoryKcp, caplog: pytest.LogCaptureFixture
) -> None:
    raw = put(kcp)
    notes = await bus.bucket(bus_module.POISON_MESSAGES)
    await notes.put(raw["metadata"]["uid"], b"3 a-replica-that-is-gone")
    await bus.publish(event_for(raw))
    # A first delivery looks at no note. The second one finds three deaths, and who noted them has ended: a fourth.
    async with working(bus, kcp, Calls(raising(*[Retryable("RateLimited", "m")] * 2))):
        await until(lambda: "set aside" in caplog.text)
    caplog.clear()
    await notes.put(raw["metadata"]["uid"], b"2 a-replica-that-is-gone")
    await bus.publish(replace(event_for(raw), cause="again"))
    async with working(bus, kcp, Calls(raising(*[Retryable("RateLimited", "m")] * 4))):
        await until(lambda: acked(bus))
    assert "set aside" not in caplog.text


@pytest.mark.parametrize(("leaving", "set_aside"), [(True, False), (False, True)], ids=["leaving", "bound"])
async def test_an_object_of_a_leaving_workspace_is_never_set_aside(
    bus: Bus, kcp: InMemoryKcp, caplog: pytest.LogCaptureFixture, leaving: bool, set_aside: bool
) -> None:
    kcp.add(api_binding(terminating=leaving))
    raw = kcp.add(deleting(repository_object()))
    notes = await bus.bucket(bus_module.POISON_MESSAGES)
    await notes.put(raw["metadata"]["uid"], b"7 a-replica-that-is-gone")
    await bus.publish(event_for(raw))
    calls = Calls(raising(Retryable("RateLimited", "m")))
    async with working(bus, kcp, calls):
        await until(lambda: "set aside" in caplog.text or len(calls.names) == 2)
    assert ("set aside" in caplog.text) is set_aside


async def test_a_long_pass_says_that_it_is_under_way(bus: Bus, kcp: InMemoryKcp) -> None:
    gate = Gate()
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, Calls(gate), timing=Timing(fetch=0.1, worker=WorkerTiming(announce_after=0.05))):
        await until(lambda: conditions(stored(kcp)).get("Reconciling") == ("True", "Progressing"))
        gate.opened.set()
        await until(lambda: acked(bus))
    assert conditions(stored(kcp)) == {"Ready": ("True", "Reconciled")}


async def test_an_announcement_that_has_begun_is_seen_through(
    bus: Bus, kcp: InMemoryKcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, answered = asyncio.Event(), asyncio.Event()
    seen_through: list[str] = []

    async def announce(ctx: ReconcileContext[Repository], reason: str, text: str) -> None:
        begun.set()
        await answered.wait()
        seen_through.append(reason)

    async def over_before_the_answer(ctx: ReconcileContext[Repository]) -> Outcome:
        await begun.wait()
        asyncio.get_running_loop().call_later(0.05, answered.set)
        return await is_fine(ctx)

    monkeypatch.setattr(ReconcileContext, "announce", announce)
    await bus.publish(event_for(put(kcp)))
    async with working(
        bus, kcp, Calls(over_before_the_answer), timing=Timing(fetch=0.1, worker=WorkerTiming(announce_after=0.05))
    ):
        await until(lambda: acked(bus))
    assert seen_through == ["Progressing"]


async def test_a_short_pass_writes_its_status_once(bus: Bus, kcp: InMemoryKcp) -> None:
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: acked(bus))
    assert len(kcp.writes("repositories")) == 1


async def test_results_are_counted_by_what_they_mean_and_not_by_their_subclass(bus: Bus, kcp: InMemoryKcp) -> None:
    def counted() -> float:
        labels = {"kind": "Repository", "result": "Retryable"}
        return REGISTRY.get_sample_value("code_reconcile_results_total", labels) or 0.0

    before = counted()
    await bus.publish(event_for(put(kcp)))
    async with working(bus, kcp, Calls(raising(HostUnavailable("502")))):
        await until(lambda: acked(bus))
    assert counted() - before == 1.0


# ---- what another service has found out


FOUND = Condition(type="PackagesAvailable", status="False", reason="MissingPermission", message="m")


async def test_a_finding_reaches_status_beside_a_change_that_nobody_has_handled_yet(bus: Bus, kcp: InMemoryKcp) -> None:
    raw = put(kcp)
    await bus.publish(event_for(raw))
    await bus.publish(replace(event_for(raw, reason="found"), finding=FOUND))
    assert await queued(bus) == 2
    calls = Calls(is_fine)
    async with working(bus, kcp, calls):
        await until(lambda: acked(bus))
    assert conditions(stored(kcp)) == {
        "Ready": ("True", "Reconciled"),
        "PackagesAvailable": ("False", "MissingPermission"),
    }
    assert len(calls.names) == 1


async def test_a_finding_is_not_written_to_an_object_that_is_paused_or_of_another_uid(
    bus: Bus, kcp: InMemoryKcp
) -> None:
    paused = put(kcp, "paused", metadata={"annotations": {PAUSED: "true"}})
    other = put(kcp, "other")
    await bus.publish(replace(event_for(paused, reason="found"), finding=FOUND))
    await bus.publish(replace(event_for(other, reason="found"), finding=FOUND, uid="of-before"))
    async with working(bus, kcp, Calls(is_fine)):
        await until(lambda: acked(bus))
    assert "status" not in stored(kcp, "paused")
    assert "status" not in stored(kcp, "other")
