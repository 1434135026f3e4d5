"""What goes wrong on request, and the record of what was asked."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from devstack.githubsim import SimControl
from devstack.githubsim.control import ControlRefused


async def test_a_fault_hits_the_matching_requests_as_often_as_it_says(
    api: Any, alice: Any, control: SimControl
) -> None:
    await control.add_fault("status", path="/user", status=500, body={"message": "boom"}, headers={"X-Why": "test"})
    assert (await api("GET", "/rate_limit", token=alice)).status == 200
    hit = await api("GET", "/user", token=alice)
    assert (hit.status, hit.body, hit.headers["X-Why"]) == (500, {"message": "boom"}, "test")
    assert (await api("GET", "/user", token=alice)).status == 200


async def test_a_fault_may_be_for_one_method_one_login_and_for_ever(api: Any, acme: str, control: SimControl) -> None:
    alice, bob = await control.create_token("alice"), await control.create_token("bob")
    await control.add_fault("html_502", method="GET", path="/(user|orgs/.*)", login="alice", count=None)
    for _ in range(2):
        hit = await api("GET", "/orgs/acme", token=alice, enterprise=True)
        assert (hit.status, hit.headers["Content-Type"]) == (502, "text/html")
    assert (await api("GET", "/user", token=bob)).status == 200
    await control.clear_faults()
    assert (await api("GET", "/user", token=alice)).status == 200


async def test_a_secondary_limit_can_be_had_without_exceeding_one(api: Any, alice: Any, control: SimControl) -> None:
    await control.add_fault("secondary_limit", seconds=7)
    hit = await api("GET", "/user", token=alice)
    assert (hit.status, hit.headers["Retry-After"]) == (403, "7")


@pytest.mark.parametrize("applied", [False, True])
async def test_a_reset_connection_loses_the_request_or_only_its_answer(
    api: Any, alice: Any, control: SimControl, applied: bool
) -> None:
    await control.add_fault("reset", method="POST", applied=applied)
    with pytest.raises(aiohttp.ClientOSError):
        await api("POST", "/user/repos", token=alice, json={"name": "demo"})
    made = await control.repositories()
    assert [repository.name for repository in made] == (["demo"] if applied else [])


async def test_a_hanging_request_ends_with_the_clients_patience(api: Any, alice: Any, control: SimControl) -> None:
    await control.add_fault("hang", path="/user")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(api("GET", "/user", token=alice), 0.2)
    assert (await api("GET", "/user", token=alice)).status == 200


async def test_a_slow_answer_comes_late_and_others_overtake_it(api: Any, alice: Any, control: SimControl) -> None:
    await control.add_fault("slow", path="/user", seconds=0.3)
    started = time.monotonic()
    slow = asyncio.create_task(api("GET", "/user", token=alice))
    quick = asyncio.create_task(api("GET", "/meta", token=alice))
    done, _ = await asyncio.wait({slow, quick}, return_when=asyncio.FIRST_COMPLETED)
    assert done == {quick}
    assert (await slow).status == 200
    assert time.monotonic() - started >= 0.3


async def test_a_slow_answer_comes_once_the_faults_are_cleared(api: Any, alice: Any, control: SimControl) -> None:
    await control.add_fault("slow", path="/user", seconds=3600)
    slow = asyncio.create_task(api("GET", "/user", token=alice))
    async with asyncio.timeout(30):
        while not any(entry.fault == "slow" for entry in (await control.journal()).entries):
            await asyncio.sleep(0.01)
        await control.clear_faults()
        assert (await slow).status == 200


async def test_a_truncated_answer_breaks_off_after_the_request_took_effect(
    api: Any, alice: Any, control: SimControl
) -> None:
    await control.add_fault("truncate", method="POST")
    with pytest.raises(aiohttp.ClientPayloadError):
        await api("POST", "/user/repos", token=alice, json={"name": "demo"})
    assert (await control.get_repository("alice", "demo")).name == "demo"


async def test_latency_delays_every_answer_and_overlaps(api: Any, alice: Any, control: SimControl) -> None:
    await control.set_switches(latency=0.2)
    started = time.monotonic()
    await asyncio.gather(*(api("GET", "/user", token=alice) for _ in range(10)))
    assert 0.2 <= time.monotonic() - started < 1.5
    journal = await control.journal()
    assert journal.max_in_flight == journal.max_in_flight_by_login["alice"] == 10


async def test_the_journal_tells_who_asked_what_and_what_came_of_it(
    api: Any, alice: Any, control: SimControl, clock: Any
) -> None:
    etag = (await api("GET", "/user", token=alice)).headers["ETag"]
    await api("GET", "/user", token=alice, headers={"If-None-Match": etag})
    await api("GET", "/users/alice", enterprise=True)
    await control.add_fault("html_502")
    await api("DELETE", "/repos/alice/demo", token=alice)
    await api("GET", "/nowhere", token=alice)
    journal = await control.journal()
    seen = [(e.method, e.path, e.operation, e.login, e.status, e.not_modified, e.fault) for e in journal.entries]
    assert seen == [
        ("GET", "/user", "GET /user", "alice", 200, False, None),
        ("GET", "/user", "GET /user", "alice", 304, True, None),
        ("GET", "/users/alice", "GET /users/{username}", None, 200, False, None),
        ("DELETE", "/repos/alice/demo", "DELETE /repos/{owner}/{repo}", "alice", 502, False, "html_502"),
        ("GET", "/nowhere", None, "alice", 404, False, None),
    ]
    assert {entry.started for entry in journal.entries} == {clock.now}
    await control.clear_journal()
    assert (await control.journal()).total == 0


async def test_credentials_are_counted_but_never_recorded(
    api: Any, alice: Any, control: SimControl, session: aiohttp.ClientSession, sim: Any
) -> None:
    await api("GET", "/user", token="ghp_planted000000000000000000000000000000")
    await control.revoke_token(alice.id)
    await api("GET", "/user", token=alice)
    await api("GET", f"/users/{alice.value}")
    journal = await control.journal()
    assert [entry.login for entry in journal.entries] == ["unknown", "alice", None]
    assert journal.unknown_credentials == 1
    assert journal.entries[2].path == "/users/[credential]"
    for path in ("/_sim/journal", "/_sim/state"):
        async with session.get(sim.url + path) as response:
            text = await response.text()
        assert alice.value not in text
        assert "planted" not in text


async def test_the_control_api_says_what_is_wrong_with_a_request(control: SimControl, alice: Any) -> None:
    for attempt, said in (
        (control.create_user("alice"), "alice is taken"),
        (control.create_token("nobody"), "no such account: nobody"),
        (control.set_switches(nonsense=1), "no such switch: nonsense"),
        (control.add_fault("status", nonsense=1), "no such field: nonsense"),
        (control.get_repository("alice", "demo"), "no such repository: alice/demo"),
        (control.create_repository("alice", "demo", archived="yes"), "archived is of the wrong type"),
    ):
        with pytest.raises(ControlRefused, match=said):
            await attempt


async def test_a_person_renames_transfers_and_deletes(api: Any, acme: str, alice: Any, control: SimControl) -> None:
    repository = await control.create_repository("alice", "demo")
    moved = await control.edit_repository("alice", "demo", owner=acme, name="fresh", branches=["trunk"])
    assert (moved.owner, moved.name, moved.default_branch) == ("acme", "fresh", "trunk")
    assert (await api("GET", "/repos/alice/demo", token=alice)).status == 301
    await control.delete_repository(acme, "fresh")
    assert (await api("GET", f"/repositories/{repository.id}", token=alice)).status == 404
