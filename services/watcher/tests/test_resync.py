"""The resync schedule: every object about once per interval, at times that its uid fixes."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from watcher.index import ObjectKey
from watcher.resync import SOON_SECONDS, ResyncSchedule

INTERVAL = timedelta(minutes=10)
EPOCH = 1_800_000_000.0


def filled(count: int, interval: timedelta = INTERVAL) -> ResyncSchedule:
    schedule = ResyncSchedule(interval)
    for number in range(count):
        schedule.add("c1", ObjectKey("repositories", str(number)), f"uid-{number}")
    return schedule


def turns(schedule: ResyncSchedule, start: float, seconds: float, step: float) -> list[tuple[float, str]]:
    list(schedule.due(start))
    found: list[tuple[float, str]] = []
    for tick in range(1, round(seconds / step) + 1):
        now = start + tick * step
        found += [(now, key.name) for _, key in schedule.due(now)]
    return found


@pytest.mark.parametrize("interval", [INTERVAL, timedelta(seconds=10), timedelta(seconds=1)])
def test_no_object_waits_longer_than_the_interval_for_its_turn(interval: timedelta) -> None:
    seconds = interval.total_seconds()
    step = seconds / 1000
    seen: dict[str, list[float]] = {str(number): [EPOCH] for number in range(500)}
    for at, name in turns(filled(500, interval), EPOCH, seconds * 4, step):
        seen[name].append(at)
    gaps = [after - before for times in seen.values() for before, after in pairwise(times)]
    assert max(gaps) <= seconds + step * 1.01
    assert min(gap for times in seen.values() for gap in [b - a for a, b in pairwise(times[1:])]) > seconds * 0.9


def test_the_same_objects_are_not_always_behind_the_same_others() -> None:
    found = turns(filled(500), EPOCH, 600 * 31, 1)
    first, last = ([name for at, name in found if begin <= at - EPOCH < begin + 600] for begin in (0, 18_000))
    early = set(first[:100])
    assert 5 < len(early & set(last[:100])) < 60


def test_turns_are_spread_over_the_interval() -> None:
    found = turns(filled(6000), EPOCH, 600, 1)
    per_minute = [sum(EPOCH + m * 60 < at <= EPOCH + m * 60 + 60 for at, _ in found) for m in range(10)]
    assert min(per_minute) > 400
    assert max(per_minute) < 800


def test_turns_stay_the_same_over_a_restart() -> None:
    before = {(at, name) for at, name in turns(filled(50), EPOCH, 1800, 1) if at > EPOCH + 600}
    assert before == set(turns(filled(50), EPOCH + 600, 1200, 1))


def test_a_late_call_catches_up_by_one_interval_at_most() -> None:
    schedule = filled(50)
    list(schedule.due(EPOCH))
    assert len(list(schedule.due(EPOCH + 10_000))) == 50


def test_a_clock_that_is_set_back_repeats_nothing() -> None:
    schedule = filled(50)
    list(schedule.due(EPOCH))
    assert list(schedule.due(EPOCH - 300)) == []
    assert len(list(schedule.due(EPOCH))) < 50


def test_an_object_that_was_removed_and_added_again_has_one_turn() -> None:
    schedule = filled(1)
    list(schedule.due(EPOCH))
    key = ObjectKey("repositories", "0")
    schedule.remove("c1", key, "uid-0")
    schedule.add("c1", key, "uid-0")
    schedule.remove("c1", key, "uid-of-another")
    assert len(list(schedule.due(EPOCH + 600))) == 1


def test_a_removed_object_has_no_turn() -> None:
    schedule = filled(1)
    schedule.remove("c1", ObjectKey("repositories", "0"), "uid-0")
    assert turns(schedule, EPOCH, 600, 1) == []


def test_a_tick_is_a_second_at_most() -> None:
    assert ResyncSchedule(timedelta(hours=10)).tick == pytest.approx(1.0)
    assert ResyncSchedule(timedelta(seconds=5)).tick == pytest.approx(0.1)


def test_what_is_asked_for_soon_is_due_once_and_keeps_its_turns() -> None:
    plain, hurried = filled(2), filled(2)
    expected = turns(plain, EPOCH, 1200, 1)
    list(hurried.due(EPOCH))
    found: list[tuple[float, str]] = []
    for second in range(1, 1201):
        if second in (10, 12):
            hurried.soon("c1", ObjectKey("repositories", "0"))
            hurried.soon("c1", ObjectKey("repositories", "gone"))
        found += [(EPOCH + second, key.name) for _, key in hurried.due(EPOCH + second)]
    assert [turn for turn in found if turn not in expected] == [(EPOCH + 12 + SOON_SECONDS, "0")]
    assert set(expected) <= set(found)
