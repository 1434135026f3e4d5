from __future__ import annotations

import json

import pytest

from codecommon.githost.budget.blocks import Block, blocked_by, stored_block

NOW = 1_800_000_000.0


def refused_each_time_it_ends(after: float | None, times: int) -> list[float]:
    """The seconds of each block of a host that refuses the first request after every one."""
    known, now, waits = Block(), NOW, list[float]()
    for _ in range(times):
        known = blocked_by(known, now, now + 0.1, after)
        waits.append(round(known.until - (now + 0.1), 3))
        now = known.until + 20
    return waits


@pytest.mark.parametrize(
    ("after", "waits"),
    [
        (None, [60, 120, 240, 480, 960, 1920, 3600, 3600]),
        (1, [1, 60, 120, 240, 480, 960, 1920, 3600]),
        (300, [300, 300, 300, 300, 480, 960, 1920, 3600]),
    ],
    ids=["no time", "a time that is too short", "a longer one"],
)
def test_a_host_that_goes_on_refusing_is_asked_ever_more_rarely(after: float | None, waits: list[float]) -> None:
    assert refused_each_time_it_ends(after, len(waits)) == waits


@pytest.mark.parametrize("after", [None, 5.0])
def test_requests_that_were_under_way_together_are_refused_once(after: float | None) -> None:
    known = blocked_by(Block(NOW - 60, NOW - 10, 1), NOW, NOW + 0.1, after)
    assert known.strikes == 2
    assert blocked_by(known, NOW, NOW + 0.2, after) == known


def test_a_host_that_works_between_its_pauses_is_believed_each_time() -> None:
    known, now = Block(), NOW
    for _ in range(9):
        known = blocked_by(known, now, now + 0.1, 38, worked=True)
        assert known.until == pytest.approx(now + 38.1)
        now = known.until + 20


def test_a_host_is_believed_when_it_refuses_again_after_it_has_worked_for_a_while() -> None:
    known = blocked_by(Block(NOW - 3600, NOW - 61), NOW, NOW + 0.1, 5)
    assert (known.until, known.strikes) == (NOW + 5.1, 0)


def test_one_that_had_not_heard_of_the_pause_adds_to_it_but_does_not_count() -> None:
    known = Block(NOW - 10, NOW + 5, 1)
    assert blocked_by(known, NOW - 1, NOW, 3) == known
    assert blocked_by(known, NOW - 1, NOW, 60) == Block(NOW, NOW + 60, 1)


def test_a_stored_block_ends_an_hour_after_the_answer_at_the_latest() -> None:
    """However often it is read: the hour is counted from the answer and not from the reading."""
    stored = json.dumps({"since": NOW - 600, "until": 99_999_999_999.0, "strikes": 1}).encode()
    assert stored_block(stored, NOW) == Block(NOW - 600, NOW + 3000, 1)
    assert stored_block(stored, NOW + 3600) == Block(NOW - 600, NOW + 3000, 1)


def test_a_stored_block_that_begins_in_the_future_ends_within_an_hour() -> None:
    stored = json.dumps({"since": NOW + 10**9, "until": NOW + 2 * 10**9, "strikes": 0}).encode()
    assert stored_block(stored, NOW) == Block(NOW, NOW + 3600, 0)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"no JSON",
        b"[]",
        b'{"since": 1, "until": NaN, "strikes": 0}',
        b'{"since": 1, "until": Infinity, "strikes": 0}',
        b'{"since": "x", "until": 2, "strikes": 0}',
        b'{"since": 1, "until": 2, "strikes": "0"}',
        b'{"since": 1, "until": 2, "strikes": 0, "more": 1}',
    ],
)
def test_what_is_no_block_is_none(stored: bytes) -> None:
    assert stored_block(stored, NOW) is None


def test_stored_strikes_do_not_break_the_arithmetic() -> None:
    known = stored_block(b'{"since": 1, "until": 2, "strikes": 100000}', NOW)
    assert known is not None
    assert blocked_by(Block(NOW - 9, NOW - 5, known.strikes), NOW, NOW, None).until == NOW + 3600
