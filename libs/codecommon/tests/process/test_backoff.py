"""Growing delays per key."""

from __future__ import annotations

import random

from codecommon.process.backoff import Backoff


class NoJitter(random.Random):
    def random(self) -> float:
        return 0.0


class MostJitter(random.Random):
    def random(self) -> float:
        return 1.0


def test_delays_double_up_to_five_minutes() -> None:
    backoff = Backoff(rng=NoJitter())
    assert [backoff.failed("a") for _ in range(11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_jitter_adds_a_quarter_at_most() -> None:
    assert Backoff(rng=MostJitter()).failed("a") == 1.25
    assert Backoff(rng=NoJitter()).jitter(8) == 8


def test_keys_are_counted_apart() -> None:
    backoff = Backoff(rng=NoJitter())
    backoff.failed("a")
    assert backoff.failed("b") == 1


def test_a_success_begins_anew() -> None:
    backoff = Backoff(rng=NoJitter())
    backoff.failed("a")
    backoff.succeeded("a")
    assert backoff.failed("a") == 1


def test_a_success_of_what_never_failed_is_nothing() -> None:
    Backoff().succeeded("a")


def test_very_many_failures_do_not_overflow() -> None:
    backoff = Backoff(rng=NoJitter())
    assert [backoff.failed("a") for _ in range(5000)][-1] == 300


def test_the_memory_is_bounded_and_forgets_what_failed_longest_ago() -> None:
    backoff = Backoff(rng=NoJitter())
    for n in range(50_001):
        backoff.failed(str(n))
    assert backoff.failed("0") == 1
    assert backoff.failed("50000") == 2
