"""Primary and secondary rate limits, and conditional requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from devstack.githubsim import SimControl


async def test_every_answer_counts_down_one_quota_for_all_tokens_of_a_user(
    api: Any, alice: Any, control: SimControl, clock: Any
) -> None:
    other = await control.create_token("alice", kind="oauth")
    first = await api("GET", "/user", token=alice)
    second = await api("GET", "/nowhere", token=other)
    assert first.headers["X-RateLimit-Limit"] == "5000"
    assert (first.headers["X-RateLimit-Used"], first.headers["X-RateLimit-Remaining"]) == ("1", "4999")
    assert (second.headers["X-RateLimit-Used"], second.headers["X-RateLimit-Remaining"]) == ("2", "4998")
    assert first.headers["X-RateLimit-Reset"] == second.headers["X-RateLimit-Reset"] == str(int(clock.now) + 3600)
    assert first.headers["X-RateLimit-Resource"] == "core"


@pytest.mark.parametrize("status", [403, 429])
async def test_an_exhausted_quota_refuses_until_its_reset(
    api: Any, alice: Any, control: SimControl, clock: Any, status: int
) -> None:
    await control.set_switches(primary_quota=2, rate_limit_status=status)
    for _ in range(2):
        assert (await api("GET", "/user", token=alice)).status == 200
    refused = await api("GET", "/user", token=alice)
    assert refused.status == status
    assert refused.body["message"].startswith("API rate limit exceeded for user ID ")
    assert refused.headers["X-RateLimit-Remaining"] == "0"
    assert (await api("GET", "/rate_limit", token=alice)).status == 200
    clock.advance(3600)
    assert (await api("GET", "/user", token=alice)).status == 200


async def test_a_quota_can_be_set_for_one_token(api: Any, alice: Any, control: SimControl) -> None:
    poor = await control.create_token("alice")
    await control.set_switches(token_id=poor.id, primary_quota=0)
    assert (await api("GET", "/user", token=poor)).status == 403
    assert (await api("GET", "/user", token=alice)).status == 200


async def test_anonymous_requests_have_a_small_quota_of_their_own(api: Any, alice: Any, control: SimControl) -> None:
    await control.set_switches(anonymous_quota=1)
    assert (await api("GET", "/users/alice")).headers["X-RateLimit-Limit"] == "1"
    refused = await api("GET", "/users/alice")
    assert (refused.status, refused.body["message"][:39]) == (403, "API rate limit exceeded for 127.0.0.1. ")
    assert (await api("GET", "/users/alice", token=alice)).status == 200


async def test_a_known_etag_answers_304_without_a_body_and_for_nothing(
    api: Any, alice: Any, control: SimControl
) -> None:
    await control.create_repository("alice", "demo")
    first = await api("GET", "/repos/alice/demo", token=alice)
    condition = {"If-None-Match": first.headers["ETag"]}
    again = await api("GET", "/repos/alice/demo", token=alice, headers=condition)
    assert (again.status, again.body) == (304, None)
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["X-RateLimit-Used"] == first.headers["X-RateLimit-Used"]
    await control.edit_repository("alice", "demo", description="changed")
    changed = await api("GET", "/repos/alice/demo", token=alice, headers=condition)
    assert (changed.status, changed.body["description"]) == (200, "changed")
    assert changed.headers["X-RateLimit-Used"] == "2"


async def test_an_etag_is_weak_where_the_answer_may_be_compressed_and_compares_weakly(api: Any, alice: Any) -> None:
    weak = await api("GET", "/user", token=alice, headers={"Accept-Encoding": "gzip"})
    strong = await api("GET", "/user", token=alice, headers={"Accept-Encoding": "identity"})
    assert weak.headers["ETag"] == f"W/{strong.headers['ETag']}"
    condition = {"If-None-Match": f'"other", {weak.headers["ETag"]}', "Accept-Encoding": "identity"}
    assert (await api("GET", "/user", token=alice, headers=condition)).status == 304


async def test_an_etag_belongs_to_the_credential_it_was_given_to(api: Any, alice: Any, control: SimControl) -> None:
    etag = (await api("GET", "/user", token=alice)).headers["ETag"]
    other = await control.create_token("alice")
    assert (await api("GET", "/user", token=other, headers={"If-None-Match": etag})).status == 200


async def test_an_anonymous_304_is_counted(api: Any, alice: Any) -> None:
    first = await api("GET", "/users/alice")
    again = await api("GET", "/users/alice", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.headers["X-RateLimit-Used"]) == (304, "2")


async def test_writing_too_fast_is_blocked_with_retry_after_and_quota_left(
    api: Any, alice: Any, control: SimControl, clock: Any
) -> None:
    await control.set_switches(secondary_limits=True, secondary_writes_per_minute=2)
    for name in ("a", "b"):
        assert (await api("POST", "/user/repos", token=alice, json={"name": name})).status == 201
    refused = await api("POST", "/user/repos", token=alice, json={"name": "c"})
    assert (refused.status, refused.headers["Retry-After"]) == (403, "60")
    assert refused.body["message"].startswith("You have exceeded a secondary rate limit.")
    assert int(refused.headers["X-RateLimit-Remaining"]) > 0
    clock.advance(20)
    assert (await api("GET", "/user", token=alice)).headers["Retry-After"] == "40"
    clock.advance(40)
    assert (await api("POST", "/user/repos", token=alice, json={"name": "c"})).status == 201


async def test_reads_and_writes_cost_points(api: Any, alice: Any, control: SimControl) -> None:
    await control.set_switches(secondary_limits=True, secondary_points_per_minute=6)
    assert (await api("POST", "/user/repos", token=alice, json={"name": "a"})).status == 201
    assert (await api("GET", "/user", token=alice)).status == 200
    assert (await api("GET", "/user", token=alice)).status == 403
    await control.clear_limits()
    assert (await api("GET", "/user", token=alice)).status == 200


async def test_too_many_requests_at_once_are_blocked(api: Any, alice: Any, control: SimControl) -> None:
    await control.set_switches(latency=0.1, secondary_limits=True, secondary_concurrent=3)
    replies = await asyncio.gather(*(api("GET", "/user", token=alice) for _ in range(4)))
    assert sorted(reply.status for reply in replies) == [200, 200, 200, 403]


async def test_each_refusal_counts_as_a_violation_and_so_does_a_request_before_the_named_time(
    api: Any, alice: Any, control: SimControl, clock: Any
) -> None:
    await control.set_switches(secondary_limits=True, secondary_writes_per_minute=1)
    for name in ("a", "b"):
        await api("POST", "/user/repos", token=alice, json={"name": name})
    await api("GET", "/user", token=alice)
    assert (await control.journal()).violations == {"writes-per-minute": 1, "blocked": 1}
    await control.clear_journal()
    assert (await control.journal()).violations == {}


async def test_the_minute_and_the_hour_of_the_limits_can_be_shortened(
    api: Any, alice: Any, control: SimControl, clock: Any
) -> None:
    await control.set_switches(
        secondary_limits=True,
        secondary_writes_per_minute=1,
        secondary_minute=0.5,
        secondary_writes_per_hour=2,
        secondary_hour=30.0,
        secondary_retry_after=1,
    )
    for name in ("a", "b"):
        assert (await api("POST", "/user/repos", token=alice, json={"name": name})).status == 201
        clock.advance(0.5)
    assert (await api("POST", "/user/repos", token=alice, json={"name": "c"})).status == 403
    clock.advance(30)
    assert (await api("POST", "/user/repos", token=alice, json={"name": "c"})).status == 201
    assert (await control.journal()).violations == {"writes-per-hour": 1}


async def test_reading_is_no_content_creation(api: Any, alice: Any, control: SimControl) -> None:
    await control.set_switches(secondary_limits=True, secondary_writes_per_minute=1)
    assert (await api("POST", "/user/repos", token=alice, json={"name": "a"})).status == 201
    assert (await api("DELETE", "/repos/alice/a", token=alice)).status == 204
    assert (await api("GET", "/user", token=alice)).status == 200
