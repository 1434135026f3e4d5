"""Every object once per interval, at a phase of its own."""

from __future__ import annotations

from datetime import timedelta

import pytest

from watcher.index import ObjectKey
from watcher.resync import ResyncSchedule

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
def test_each_object_has_one_turn_per_interval(interval: timedelta) -> None:
    seconds = interval.total_seconds()
    found = turns(filled(500, interval), EPOCH, seconds * 3, seconds / 1000)
    assert len(found) == 1500
    assert {name for _, name in found} == {str(number) for number in range(500)}


def test_turns_are_spread_over_the_interval() -> None:
    found = turns(filled(6000), EPOCH, 600, 1)
    per_minute = [sum(EPOCH + m * 60 < at <= EPOCH + m * 60 + 60 for at, _ in found) for m in range(10)]
    assert min(per_minute) > 400
    assert max(per_minute) < 800


def test_the_phase_survives_a_restart() -> None:
    before = {name: at for at, name in turns(filled(50), EPOCH, 600, 1)}
    after = {name: at for at, name in turns(filled(50), EPOCH + 600, 600, 1)}
    assert {name: at + 600 for name, at in before.items()} == after


def test_a_late_call_catches_up_by_one_interval_at_most() -> None:
    schedule = filled(50)
    list(schedule.due(EPOCH))
    assert len(list(schedule.due(EPOCH + 10_000))) == 50


def test_a_clock_that_is_set_back_repeats_nothing() -> None:
    schedule = filled(50)
    list(schedule.due(EPOCH))
    assert list(schedule.due(EPOCH - 300)) == []
    assert len(list(schedule.due(EPOCH))) < 50


def test_a_removed_object_has_no_turn() -> None:
    schedule = filled(1)
    schedule.remove("c1", ObjectKey("repositories", "0"), "uid-0")
    assert turns(schedule, EPOCH, 600, 1) == []


def test_a_tick_is_a_second_at_most() -> None:
    assert ResyncSchedule(timedelta(hours=10)).tick == pytest.approx(1.0)
    assert ResyncSchedule(timedelta(seconds=5)).tick == pytest.approx(0.1)
