"""The arithmetic of the budget: no window that the host may slide over its own record ever overflows."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque

import pytest

from codecommon.githost.budget.ledger import TICKET_SECONDS, Ask, Granted, Ledger, Wait
from codecommon.githost.github.provider import LIMITS as GITHUB
from codecommon.githost.job import Job, Urgency
from codecommon.githost.limits import Limits, Quota, Window

NOW = 1_000_000.0
_tickets = itertools.count()


def job(uid: str = "", urgency: Urgency = "desired", workspace: str = "w") -> Job:
    return Job(urgency, uid, workspace)


def ask(
    ledger: Ledger, limits: Limits, now: float, method: str = "POST", **given: object
) -> tuple[str, Granted | Wait]:
    ticket = str(next(_tickets))
    quota = given.pop("quota", None)
    assert quota is None or isinstance(quota, Quota)
    return ticket, ledger.ask(Ask(ticket, method, job(**given), quota), limits, now)  # type: ignore[arg-type]


def done(ledger: Ledger, limits: Limits, now: float, method: str = "POST", took: float = 0.0, **given: object) -> None:
    ticket, answer = ask(ledger, limits, now, method, **given)
    assert answer == Granted()
    ledger.finish(ticket, limits, now + took)


def until(answer: Granted | Wait) -> float:
    assert isinstance(answer, Wait)
    return answer.until


def test_writes_start_a_second_apart_and_reads_do_not_wait_for_them() -> None:
    ledger = Ledger()
    done(ledger, GITHUB, NOW)
    assert until(ask(ledger, GITHUB, NOW + 0.2, "DELETE")[1]) == NOW + 1
    assert ask(ledger, GITHUB, NOW + 0.2, "GET")[1] == Granted()


def test_a_request_counts_from_the_moment_its_answer_is_in() -> None:
    limits, ledger = Limits((Window(1, 60.0),)), Ledger()
    done(ledger, limits, NOW, took=10)
    assert until(ask(ledger, limits, NOW + 60)[1]) == pytest.approx(NOW + 10 + 60.6)


def test_a_request_under_way_counts_as_made_now() -> None:
    limits, ledger = Limits((Window(1, 60.0),)), Ledger()
    ticket, answer = ask(ledger, limits, NOW)
    assert answer == Granted()
    assert until(ask(ledger, limits, NOW + 5)[1]) == pytest.approx(NOW + 5 + 60.6)
    ledger.finish(ticket, limits, NOW + 6)
    assert until(ask(ledger, limits, NOW + 7)[1]) == pytest.approx(NOW + 6 + 60.6)


def test_the_lease_of_a_process_that_died_ends_and_its_request_stays_counted() -> None:
    limits, ledger = Limits((Window(1, 60.0),), concurrent=1), Ledger()
    ask(ledger, limits, NOW)
    later = NOW + TICKET_SECONDS + 1
    assert until(ask(ledger, limits, later)[1]) == pytest.approx(NOW + TICKET_SECONDS + 60.6)
    assert ask(ledger, limits, later, "GET", urgency="interactive")[1] == Granted()


def test_each_object_gets_a_time_of_its_own_and_its_turn_when_it_comes_back() -> None:
    limits, ledger = Limits(interval=1.0), Ledger()
    done(ledger, limits, NOW)
    times = [until(ask(ledger, limits, NOW, uid=uid)[1]) for uid in "abc"]
    assert times == [NOW + 1, NOW + 2, NOW + 3]
    assert until(ask(ledger, limits, NOW + 0.5, uid="b")[1]) == NOW + 2, "asked too early, it keeps its time"
    assert until(ask(ledger, limits, NOW + 1, uid="x")[1]) == NOW + 4, "what comes later stands behind"
    for uid, at in zip("abc", times, strict=True):
        done(ledger, limits, at, uid=uid)


def test_a_reservation_that_nobody_uses_expires() -> None:
    limits, ledger = Limits(interval=1.0), Ledger()
    done(ledger, limits, NOW)
    ask(ledger, limits, NOW, uid="a")
    assert until(ask(ledger, limits, NOW + 1, uid="b")[1]) == NOW + 2
    done(ledger, limits, NOW + 700, uid="c")
    assert ledger.reservations == {}


def test_the_record_stays_short_when_thousands_wait_and_the_rest_come_as_places_become_free() -> None:
    limits, ledger = Limits((Window(10, 60.0),)), Ledger()
    times = [a.until for n in range(600) if isinstance(a := ask(ledger, limits, NOW, uid=str(n))[1], Wait)]
    assert len(ledger.reservations) == 500
    reserved, others = times[:500], times[500:]
    assert reserved == sorted(reserved)
    assert others[0] == pytest.approx(reserved[0] + 4.5)
    assert others[-1] - others[-2] == pytest.approx(4.5), "a little denser than places become free"


def test_a_person_waits_for_nothing_but_what_was_sent() -> None:
    limits, ledger = Limits(interval=1.0), Ledger()
    done(ledger, limits, NOW)
    for uid in "abc":
        ask(ledger, limits, NOW, uid=uid)
    done(ledger, limits, NOW + 1, urgency="interactive")


def test_a_workspace_gets_half_while_another_is_there_and_all_when_it_is_alone() -> None:
    limits = Limits((Window(10, 60.0),))
    alone = Ledger()
    for _ in range(10):
        done(alone, limits, NOW, workspace="a")
    shared = Ledger()
    done(shared, limits, NOW, workspace="b")
    for _ in range(5):
        done(shared, limits, NOW, workspace="a")
    assert isinstance(ask(shared, limits, NOW, workspace="a")[1], Wait)
    done(shared, limits, NOW, workspace="b")


def test_points_are_summed_over_the_window_and_the_last_of_them_kept_for_people() -> None:
    limits, ledger = Limits(points=(Window(20, 60.0),)), Ledger()
    for _ in range(3):
        done(ledger, limits, NOW, "POST")
    assert isinstance(ask(ledger, limits, NOW, "POST")[1], Wait)
    done(ledger, limits, NOW, "POST", urgency="interactive")
    assert until(ask(ledger, limits, NOW, "GET", urgency="interactive")[1]) <= NOW + 62
    done(ledger, limits, NOW + 62, "GET")


def test_reads_that_find_no_points_are_spread_over_the_time_in_which_points_become_free() -> None:
    limits, ledger = Limits(points=(Window(60, 60.0),)), Ledger()
    for _ in range(54):
        done(ledger, limits, NOW, "GET")
    times = [until(ask(ledger, limits, NOW, "GET", uid=uid)[1]) for uid in "abc"]
    assert [after - before for before, after in itertools.pairwise(times)] == pytest.approx([1 / 0.9] * 2)


def test_drift_has_a_quarter_of_the_quota_and_what_is_declared_the_rest() -> None:
    quota = Quota(limit=100, remaining=90, reset=NOW + 600)
    ledger, limits = Ledger(), Limits(concurrent=1000)
    for _ in range(25):
        done(ledger, limits, NOW, "GET", urgency="drift", quota=quota)
    assert until(ask(ledger, limits, NOW, "GET", urgency="drift", quota=quota)[1]) == NOW + 600
    done(ledger, limits, NOW, "GET", quota=quota)
    low = Quota(limit=100, remaining=5, reset=NOW + 600)
    assert isinstance(ask(ledger, limits, NOW, "GET", quota=low)[1], Wait)
    done(ledger, limits, NOW, "GET", urgency="interactive", quota=low)


def test_the_record_survives_being_stored() -> None:
    ledger = Ledger()
    done(ledger, GITHUB, NOW, quota=Quota(100, 50, NOW + 9))
    ask(ledger, GITHUB, NOW + 1, "GET")
    ask(ledger, GITHUB, NOW + 1, uid="a")
    ask(ledger, GITHUB, NOW + 1, uid="b")
    assert Ledger.decode(ledger.encode(), NOW) == ledger


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_host_s_delays_no_sliding_window_overflows_and_none_starves(seed: int) -> None:
    rng = random.Random(seed)
    limits = Limits((Window(8, 6.0), Window(30, 60.0)), (Window(90, 6.0),), 0.1, 5)
    ledger, now = Ledger(), NOW
    due = {f"object-{n}": NOW for n in range(60)}
    under_way: list[tuple[float, str]] = []
    arrivals: list[float] = []
    while due:
        now = min(min(due.values()), *(at for at, _ in under_way)) if under_way else min(due.values())
        for at, ticket in [entry for entry in under_way if entry[0] <= now]:
            ledger.finish(ticket, limits, at)
            under_way.remove((at, ticket))
        for uid in [uid for uid, at in due.items() if at <= now]:
            ticket, answer = ask(ledger, limits, now, uid=uid)
            if isinstance(answer, Wait):
                assert answer.until > now
                due[uid] = answer.until
            else:
                took = rng.uniform(0.01, 2.0)
                arrivals.append(now + rng.uniform(0, took))
                under_way.append((now + took, ticket))
                del due[uid]
            assert len(under_way) <= 5
    arrivals.sort()
    for window in limits.creates:
        for first, beyond in zip(arrivals, arrivals[window.count :], strict=False):
            assert beyond - first >= window.seconds
    assert arrivals[-1] - NOW <= 60.6 + 30 + 6, "two full hours of thirty, the second used at once"


def test_what_comes_late_to_its_turn_still_has_it() -> None:
    limits, ledger = Limits(interval=1.0), Ledger()
    done(ledger, limits, NOW)
    ask(ledger, limits, NOW, uid="a")
    ask(ledger, limits, NOW, uid="b")
    done(ledger, limits, NOW + 20, uid="a")
    assert ask(ledger, limits, NOW + 21, uid="b")[1] == Granted()


def test_who_is_late_holds_up_nobody_and_is_the_first_to_get_what_is_left() -> None:
    limits, ledger = Limits((Window(2, 60.0),), interval=1.0), Ledger()
    for n in range(2):
        done(ledger, limits, NOW + n)
    times = [until(ask(ledger, limits, NOW + 1, uid=uid)[1]) for uid in "abcd"]
    done(ledger, limits, times[1] + 5, uid="c")
    done(ledger, limits, times[1] + 6, uid="a")
    assert isinstance(ask(ledger, limits, times[1] + 7, uid="d")[1], Wait)
    assert isinstance(ask(ledger, limits, times[1] + 7, uid="b")[1], Wait)
    done(ledger, limits, times[1] + 66, uid="b")


def test_those_who_all_come_late_get_a_time_of_their_own_each() -> None:
    ledger, count = Ledger(), 300
    done(ledger, GITHUB, NOW)
    times = [until(ask(ledger, GITHUB, NOW, uid=str(n))[1]) for n in range(count)]
    back = NOW + 290
    due = [(max(at, back), str(n)) for n, at in enumerate(times)]
    heapq.heapify(due)
    passes = 0
    while due:
        now, uid = heapq.heappop(due)
        ticket, answer = ask(ledger, GITHUB, now, uid=uid)
        passes += 1
        if isinstance(answer, Granted):
            ledger.finish(ticket, GITHUB, now + 0.01)
        else:
            heapq.heappush(due, (answer.until, uid))
    assert passes <= 5 * count


def test_what_is_removed_to_be_made_again_keeps_its_turn_for_that() -> None:
    limits, ledger = Limits(interval=1.0), Ledger()
    done(ledger, limits, NOW)
    first = until(ask(ledger, limits, NOW, uid="a")[1])
    for uid in "bcd":
        ask(ledger, limits, NOW, uid=uid)
    done(ledger, limits, first, "DELETE", uid="a")
    assert until(ask(ledger, limits, first + 0.1, "POST", uid="a")[1]) == first + 1
    done(ledger, limits, first + 1, "POST", uid="a")
    assert "a" not in ledger.reservations


@pytest.mark.parametrize("waiting", [300, 2000])
def test_a_workspace_does_not_wait_for_what_another_has_in_the_line(waiting: int) -> None:
    ledger = Ledger()
    done(ledger, GITHUB, NOW, workspace="many")
    for n in range(waiting):
        ask(ledger, GITHUB, NOW, uid=f"many-{n}", workspace="many")
    times = [until(ask(ledger, GITHUB, NOW, uid=f"few-{n}", workspace="few")[1]) for n in range(3)]
    assert times[0] <= NOW + 2
    assert times[2] <= NOW + 6
    done(ledger, GITHUB, times[0], uid="few-0", workspace="few")


@pytest.mark.parametrize("sizes", [(1, 1), (4, 4), (1, 8), (20, 20), (10, 10, 10, 10)], ids=str)
def test_workspaces_that_come_back_a_little_late_do_not_put_each_other_off_for_ever(sizes: tuple[int, ...]) -> None:
    rng, ledger = random.Random(1), Ledger()
    due = [(NOW, f"{workspace}-{n}", str(workspace)) for workspace, size in enumerate(sizes) for n in range(size)]
    heapq.heapify(due)
    made: list[str] = []
    while due:
        now, uid, workspace = heapq.heappop(due)
        assert now < NOW + 2 * sum(sizes), f"{len(due) + 1} still wait, made: {made}"
        ticket, answer = ask(ledger, GITHUB, now, uid=uid, workspace=workspace)
        if isinstance(answer, Granted):
            ledger.finish(ticket, GITHUB, now + 0.1)
            made.append(workspace)
        else:
            heapq.heappush(due, (answer.until + rng.uniform(0.02, 0.15), uid, workspace))
    half = made[: 2 * min(sizes)] if len(sizes) == 2 else []
    assert abs(half.count("0") - half.count("1")) <= 2, "they take turns"


def test_a_workspace_has_all_again_once_the_other_has_gone() -> None:
    """The half of a workspace beyond its share is not put off by the whole window because somebody was there for a moment."""
    limits, ledger, count = Limits((Window(20, 60.0),), interval=1.0), Ledger(), 19
    due = [(NOW + 0.01 * n, f"many-{n}", "many") for n in range(count)] + [(NOW + 0.005, "one", "few")]
    heapq.heapify(due)
    while due:
        now, uid, workspace = heapq.heappop(due)
        ticket, answer = ask(ledger, limits, now, uid=uid, workspace=workspace)
        if isinstance(answer, Granted):
            ledger.finish(ticket, limits, now)
        else:
            heapq.heappush(due, (answer.until + 0.05, uid, workspace))
    assert now - NOW < 2 * count, "twenty were allowed at once"


def test_what_is_removed_to_be_made_again_keeps_its_turn_though_the_removal_waits() -> None:
    limits, ledger = Limits((Window(3, 60.0),), interval=1.0), Ledger()
    wanted = Ask("soon", "POST", job("key"), later=True)
    assert ledger.ask(wanted, limits, NOW) == Granted()
    done(ledger, limits, NOW + 0.1, urgency="interactive")
    until_removed = until(ask(ledger, limits, NOW + 0.2, "DELETE", uid="key")[1])
    for n in range(3):
        ask(ledger, limits, NOW + 0.3, uid=f"other-{n}")
    done(ledger, limits, until_removed, "DELETE", uid="key")
    assert until(ask(ledger, limits, until_removed, uid="key")[1]) <= until_removed + 1


def test_comparisons_by_the_clock_that_find_no_room_put_off_nobody() -> None:
    limits, ledger = Limits(points=(Window(100, 60.0),), interval=1.0), Ledger()
    for n in range(4):
        done(ledger, limits, NOW + n, "DELETE")
    ask(ledger, limits, NOW + 4, uid="turn")
    for n in range(200):
        ask(ledger, limits, NOW + 4 + n / 100, "GET", uid=f"drift-{n}", urgency="drift")
    while isinstance(ask(ledger, limits, NOW + 6, "GET", uid="others", urgency="desired")[1], Granted):
        pass
    assert until(ask(ledger, limits, NOW + 6, "GET", uid="new", workspace="new")[1]) < NOW + 6 + 70


def test_a_third_workspace_gets_a_place_in_a_line_that_two_have_filled() -> None:
    ledger = Ledger()
    for n in range(600):
        for workspace in "ab":
            ask(ledger, GITHUB, NOW + n / 100, uid=f"{workspace}-{n}", workspace=workspace)
    answer = ask(ledger, GITHUB, NOW + 6, uid="c", workspace="c")[1]
    assert answer == Granted() or until(answer) <= NOW + 6 + 3


class Passes:
    """Objects of the workspaces ``many`` and ``few`` that read, await their turn and create, each coming back when it is told."""

    def __init__(self, limits: Limits) -> None:
        self.made: list[tuple[float, str]] = []
        self._ledger, self._limits = Ledger(), limits
        self._steps: list[tuple[float, int, str, str, str]] = []
        self._settlements: list[tuple[float, str]] = []

    def arrive(self, now: float, workspace: str) -> None:
        number = next(_tickets)
        heapq.heappush(self._steps, (now, number, f"{workspace}-{number}", workspace, "read"))

    def run_until_few_is_made(self) -> float:
        """When that was; ``made``: who was made until then."""
        rng = random.Random(1)
        while True:
            now, number, uid, workspace, step = heapq.heappop(self._steps)
            while self._settlements and self._settlements[0][0] <= now:
                at, ticket = heapq.heappop(self._settlements)
                self._ledger.finish(ticket, self._limits, at)
            ticket = str(next(_tickets))
            method = "GET" if step == "read" else "POST"
            wanted = Ask(ticket, method, job(uid, workspace=workspace), later=step == "turn")
            answer = self._ledger.ask(wanted, self._limits, now)
            if isinstance(answer, Wait):
                heapq.heappush(self._steps, (answer.until + 0.03, number, uid, workspace, "read"))
                continue
            if step != "turn":
                heapq.heappush(self._settlements, (now + 0.1, ticket))
            if step == "create":
                self.made.append((now, workspace))
                if workspace == "few":
                    return now
            else:
                after = "turn" if step == "read" else "create"
                heapq.heappush(self._steps, (now + rng.uniform(0.1, 0.15), number, uid, workspace, after))


@pytest.mark.parametrize("many", [300, 1000])
def test_a_workspace_with_one_object_is_not_kept_from_reading_by_the_long_line_of_another(many: int) -> None:
    passes = Passes(GITHUB)
    for n in range(many):
        passes.arrive(NOW + n / 200, "many")
    arrived = NOW + many / 200 + 5
    passes.arrive(arrived, "few")
    assert passes.run_until_few_is_made() < arrived + 15


@pytest.mark.parametrize("arrives", [10, 60, 155])
def test_workspaces_take_turns_however_long_the_line_has_been_moving(arrives: int) -> None:
    passes = Passes(Limits((Window(80, 60.0), Window(500, 3600.0)), interval=1.0))
    for n in range(300):
        passes.arrive(NOW + n / 20, "many")
    passes.arrive(NOW + arrives, "few")
    passes.run_until_few_is_made()
    between = [workspace for at, workspace in passes.made if at >= NOW + arrives and workspace == "many"]
    assert len(between) <= 3


def test_a_place_can_be_asked_for_before_what_it_is_for() -> None:
    limits, ledger = Limits(interval=1.0), Ledger()
    wanted = Ask("soon", "POST", job("a"), later=True)
    assert ledger.ask(wanted, limits, NOW) == Granted()
    assert ledger.under_way == {}
    assert until(ask(ledger, limits, NOW, uid="b")[1]) == NOW + 1, "it is kept"
    done(ledger, limits, NOW + 0.1, uid="a")
    assert isinstance(ledger.ask(Ask("soon", "POST", job("c"), later=True), limits, NOW + 0.2), Wait)


def test_a_comparison_by_the_clock_does_not_put_off_the_turn_of_its_object() -> None:
    limits, ledger = Limits((Window(8, 60.0),), interval=1.0), Ledger()
    for n in range(8):
        done(ledger, limits, NOW + n)
    at = until(ask(ledger, limits, NOW + 8, uid="a")[1])
    assert until(ask(ledger, limits, NOW + 9, uid="a", urgency="drift")[1]) > at
    assert until(ask(ledger, limits, NOW + 10, uid="a")[1]) == at
    done(ledger, limits, at, uid="a")


def test_reads_of_those_without_a_turn_leave_points_to_those_who_have_one() -> None:
    limits, ledger = Limits(points=(Window(100, 60.0),), interval=1.0), Ledger()
    done(ledger, limits, NOW)
    ask(ledger, limits, NOW, uid="turn")
    for n in range(35):
        done(ledger, limits, NOW, "GET", uid=f"new-{n}")
    assert isinstance(ask(ledger, limits, NOW, "GET", uid="new")[1], Wait)
    done(ledger, limits, NOW, "GET", uid="turn")
    done(ledger, limits, NOW + 1, "POST", uid="turn")
    done(ledger, limits, NOW + 1, "GET", uid="new")


@pytest.mark.parametrize(("late", "reading"), [(5.0, 0.01), (60.0, 4.0)], ids=["well", "loaded"])
def test_three_thousand_writes_with_reads_take_little_longer_than_the_limits_of_github_allow(
    late: float, reading: float
) -> None:
    granted, arrivals = provider(GITHUB, 3000, late, reading)
    assert len(granted) == 3000
    assert granted[-1] - granted[0] <= (5 * 3600 + 499) * 1.1
    for window in GITHUB.creates:
        for first, beyond in zip(arrivals, arrivals[window.count :], strict=False):
            assert beyond - first >= window.seconds


def provider(limits: Limits, count: int, late: float, reading: float = 0.01) -> tuple[list[float], list[float]]:
    """What handlers of ``count`` new objects make of a ledger: when their writes were granted, and when they arrived.

    A pass takes about ``reading`` seconds for the object itself, two reads and a write, sleeps through a wait of a second, and
    is sent back for a longer one; its message then comes back ``late`` seconds after its time at most.
    """
    rng, ledger = random.Random(1), Ledger()
    places, reads, longest_sleep = 16, 2, 1.0
    waiting: deque[int] = deque()
    granted: list[float] = []
    arrivals: list[float] = []
    order = itertools.count()
    due = [(NOW + number * 0.02, next(order), "message", number, 0, 0.0) for number in range(count)]
    heapq.heapify(due)

    def at(moment: float, what: str, number: int, step: int = 0, deadline: float = 0.0) -> None:
        heapq.heappush(due, (moment, next(order), what, number, step, deadline))

    while due:
        now, _, what, number, step, deadline = heapq.heappop(due)
        if what == "answer":
            ledger.finish(str(number), limits, now)
        elif what == "message":
            waiting.append(number)
        elif what == "over":
            places += 1
        else:
            deadline = deadline or now + longest_sleep
            ticket, answer = ask(ledger, limits, now, "GET" if step < reads else "POST", uid=str(number))
            if isinstance(answer, Granted):
                took = rng.uniform(0.01, 0.03)
                at(now + took, "answer", int(ticket))
                if step < reads:
                    at(now + took, "pass", number, step + 1)
                else:
                    granted.append(now)
                    arrivals.append(now + took * rng.random())
                    at(now + took, "over", number)
            elif answer.until <= deadline:
                at(answer.until, "pass", number, step, deadline)
            else:
                at(now, "over", number)
                at(answer.until + rng.uniform(0, late), "message", number)
        while places and waiting:
            places -= 1
            at(now + rng.uniform(0.5, 1.5) * reading, "pass", waiting.popleft())
    return granted, sorted(arrivals)


def test_an_object_that_never_comes_to_its_turn_does_not_keep_its_workspace_from_reading() -> None:
    limits, ledger = Limits(points=(Window(100, 60.0),), interval=1.0), Ledger()
    done(ledger, limits, NOW)
    ask(ledger, limits, NOW, uid="deleted while it waits")
    for _ in range(35):
        done(ledger, limits, NOW, "GET")
    assert isinstance(ask(ledger, limits, NOW, "GET")[1], Wait), "its points are left to it while it is expected"
    assert ask(ledger, limits, NOW + 32, "GET")[1] == Granted()


def test_the_turns_of_a_workspace_that_is_gone_hold_up_nobody_once_their_time_is_over() -> None:
    limits, ledger = Limits((Window(1, 60.0),), interval=1.0), Ledger()
    done(ledger, limits, NOW, workspace="gone")
    times = [until(ask(ledger, limits, NOW, uid=f"gone-{n}", workspace="gone")[1]) for n in range(10)]
    over = times[-1] + 2 * limits.interval
    done(ledger, limits, over, uid="other", workspace="other")
    assert ledger.reservations, "they might only be late"
    done(ledger, limits, over + 600, uid="other", workspace="other")
    assert ledger.reservations == {}


def test_a_stored_quota_is_renewed_within_an_hour() -> None:
    stored = Ledger(quota=Quota(5000, 0, 99_999_999_999.0))
    stored.spending.until, stored.spending.counts = 99_999_999_999.0, {"drift": 4000}
    ledger = Ledger.decode(stored.encode(), NOW)
    assert until(ask(ledger, Limits(), NOW)[1]) == NOW + 3600
    again = Ledger.decode(ledger.encode(), NOW + 3000)
    assert until(ask(again, Limits(), NOW + 3000)[1]) == NOW + 3600, "what was read is written back"
    assert ask(again, Limits(), NOW + 3600)[1] == Granted()
    assert ask(again, Limits(), NOW + 3601, "GET", urgency="drift")[1] == Granted()
