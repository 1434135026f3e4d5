from __future__ import annotations

import pytest

from codecommon.githost.budget.blocks import Block, blocked_by

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
