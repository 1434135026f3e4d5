"""Shares of a replica per workspace."""

from __future__ import annotations

from contextlib import ExitStack

from codecommon.controller.fairness import Shares
from codecommon.testing.clock import Clock


def test_there_is_room_up_to_the_cap_and_for_every_other_workspace() -> None:
    shares = Shares(2, Clock())
    with shares.running("a"):
        assert shares.delay("a") is None
        with shares.running("a"):
            assert shares.delay("a") is not None
            assert shares.delay("b") is None
        assert shares.delay("a") is None


def test_each_place_in_the_line_is_behind_the_one_before() -> None:
    clock = Clock()
    shares = Shares(1, clock)
    with shares.running("a"):
        clock.advance(10)
    with shares.running("a"):
        delays = [shares.delay("a") or 0 for _ in range(5)]
        assert delays == sorted(delays)
        assert len(set(delays)) == 5


def test_the_line_moves_as_fast_as_handlers_were() -> None:
    def third_place(seconds: float) -> float:
        clock = Clock()
        shares = Shares(2, clock)
        with shares.running("a"):
            for _ in range(100):
                with shares.running("a"):
                    clock.advance(seconds)
            with shares.running("a"):
                return [shares.delay("a") or 0 for _ in range(3)][-1]

    assert third_place(4.0) > third_place(1.0) > third_place(0.2)


def test_the_slow_handlers_of_one_workspace_do_not_lengthen_the_line_of_another() -> None:
    clock = Clock()
    shares = Shares(1, clock)
    with shares.running("slow"), shares.running("other"):
        with shares.running("slow"):
            clock.advance(1000)
        assert (shares.delay("other") or 0) < 1


def test_a_line_that_stood_for_long_moves_again_at_once() -> None:
    clock = Clock()
    shares = Shares(1, clock)
    with shares.running("a"):
        with shares.running("a"):
            clock.advance(20)
        for _ in range(10_000):
            shares.delay("a")
        clock.advance(30)
        assert (shares.delay("a") or 0) < 5


def test_a_place_in_the_line_moves_up_with_time() -> None:
    clock = Clock()
    shares = Shares(1, clock)
    with shares.running("a"):
        clock.advance(100)
    with shares.running("a"):
        first = shares.delay("a") or 0
        clock.advance(first)
        assert (shares.delay("a") or 0) <= first + 1e-6


def test_delays_stay_between_a_moment_and_half_a_minute() -> None:
    clock = Clock()
    shares = Shares(1, clock)
    with shares.running("slow"):
        with shares.running("slow"):
            clock.advance(1000)
        assert [shares.delay("slow") for _ in range(10)][-1] == 30.0
    fast = Shares(16, Clock())
    with ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(fast.running("a"))
        assert fast.delay("a") == 0.05


def test_a_handler_that_fails_gives_its_place_back() -> None:
    shares = Shares(1, Clock())
    try:
        with shares.running("a"):
            raise LookupError
    except LookupError:
        pass
    assert shares.delay("a") is None
