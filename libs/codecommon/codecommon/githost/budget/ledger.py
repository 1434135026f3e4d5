"""The ledger: what an account has asked of its host lately, and when the next request may start. Pure: time is an argument.

Counting. A request holds a ticket from its start until its answer is in. From then on it counts as made at that moment. The host
has seen it by then, so no window over the host's own record can hold more than a window over this one. If a process dies, its
requests count as answered when their tickets end.

Waiting. A write that must wait gets a reservation, which is a time of its own and a place in one line. The place is decided by
turn and then by age. A workspace's objects have consecutive turns, which start after the turn that was served last. So no object
waits for more objects of another workspace than of its own. Docs: docs/adr/0006-one-budget-per-account.md.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

import orjson

from codecommon.githost.job import Job, Urgency
from codecommon.githost.limits import LONGEST_PAUSE_SECONDS, Limits, Quota, Window, newest

TICKET_SECONDS: Final = 30.0
"""Must be longer than the deadline of a request."""

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_CREATING: Final = frozenset({"POST", "PATCH", "PUT"})
# The part of the quota that stays for more urgent requests, and the most that one kind may spend between two renewals.
_QUOTA_LEFT_TO_OTHERS: Final[Mapping[Urgency, float]] = {
    "interactive": 0.0,
    "desired": 0.05,
    "drift": 0.2,
    "crawl": 0.3,
}
_SHARE_OF_QUOTA: Final[Mapping[Urgency, float]] = {"drift": 0.25, "crawl": 0.125}
_READ_POINTS: Final = 1
_WRITE_POINTS: Final = 5
# The part of the points, and of the requests at once, that each urgency may use.
_SHARE: Final[Mapping[Urgency, float]] = {"interactive": 1.0, "desired": 0.9, "drift": 0.25, "crawl": 0.125}
_SHARE_OF_CREATES: Final[Mapping[Urgency, float]] = {**_SHARE, "desired": 1.0}
# The part of the points for an object without a reservation, while others of its workspace have one. Those need half of the
# points for their writes and the reads before them.
_SHARE_WITHOUT_RESERVATION: Final = 0.4
_SHARE_OF_ONE_WORKSPACE: Final = 0.5
# Another workspace counts as present if it created something within this part of a window.
_PRESENT: Final = 1 / 6
# The ledger is written with each request, so it must stay short. When it is full, a newcomer gets an estimated time only.
_MOST_RESERVATIONS: Final = 500
# Estimated times are a little too early, so that no room is left unused. Some newcomers then get another time.
_AHEAD_OF_TIME: Final = 0.75
# An object that is later than this many intervals keeps its place in the line, but the others no longer wait for it.
_PUNCTUAL_INTERVALS: Final = 2
# How long an unused reservation is kept. A message can be late because thousands of others are delivered before it.
_GRACE_SECONDS: Final = 600.0
# For so long after its time an object is expected any moment, and the others of its workspace read less. An object that was
# deleted while it waited never comes.
_EXPECTED_SECONDS: Final = 30.0
# When to ask again where too many requests are under way.
_LOOK_AGAIN: Final = 0.05
# Points are summed in so many slots per window, to keep the ledger short.
_SLOTS_PER_WINDOW: Final = 60
# A timer may fire a moment early.
_CLOSE_ENOUGH: Final = 0.001


@dataclass(slots=True)
class Spending:
    """Requests per urgency since the quota was renewed. ``until``: when it is renewed next."""

    until: float = 0.0
    counts: dict[str, int] = field(default_factory=dict[str, int])

    def count(self, urgency: Urgency, quota: Quota | None, now: float) -> None:
        if quota is None:
            return
        if now >= self.until:
            self.until, self.counts = quota.reset, {}
        self.counts[urgency] = self.counts.get(urgency, 0) + 1

    def give_back(self, urgency: Urgency) -> None:
        """Undo ``count`` for a request that took nothing from the quota."""
        if self.counts.get(urgency, 0) > 0:
            self.counts[urgency] -= 1


def quota_allows_at(urgency: Urgency, quota: Quota | None, spending: Spending, now: float) -> float:
    """When the quota lets a request be made: ``now``, or when it is renewed."""
    if quota is None or now >= quota.reset:
        return now
    spent = spending.counts.get(urgency, 0) if now < spending.until else 0
    share = _SHARE_OF_QUOTA.get(urgency)
    if quota.remaining <= quota.limit * _QUOTA_LEFT_TO_OTHERS[urgency] or (
        share is not None and spent >= quota.limit * share
    ):
        return quota.reset
    return now


def points_of(method: str) -> int:
    return _READ_POINTS if method in _READS else _WRITE_POINTS


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that a task wants to make. ``ticket``: a name that no other request has. ``quota``: as this process knows it.

    ``later``: the request follows soon, and only a reservation is wanted for it.
    """

    ticket: str
    method: str
    job: Job
    quota: Quota | None = None
    later: bool = False


@dataclass(frozen=True, slots=True)
class Granted:
    """Start the request now, and call ``Ledger.settle`` once it is over. For a ``later`` one: ask for the request itself soon."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again at ``until`` (epoch seconds). ``reserved``: the time is this object's own."""

    until: float
    reserved: bool


@dataclass(slots=True)
class _UnderWay:
    ends: float
    points: int
    creates: bool
    workspace: str
    urgency: Urgency


@dataclass(slots=True)
class _Reservation:
    """A time that belongs to one object. ``at``: when it is due. The line is ordered by ``turn``, then by ``place``.

    ``turn``: one more than that of the object of its workspace before it, or than the turn that was served when it came.
    ``place``: when it was due at first.
    """

    at: float
    place: float
    turn: int
    creates: bool
    workspace: str


@dataclass(slots=True)
class Ledger:
    """Times are epoch seconds. ``creates``: (time, workspace), in order; ``points``: (time, sum), in order.

    ``served``: the highest turn that has started. ``behind`` and ``behind_points`` (by workspace): the latest
    estimated time that was given to an object without a reservation, for a write and for points.
    """

    creates: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    points: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    last_write: float = 0.0
    under_way: dict[str, _UnderWay] = field(default_factory=dict[str, _UnderWay])
    reservations: dict[str, _Reservation] = field(default_factory=dict[str, _Reservation])
    served: int = 0
    behind: float = 0.0
    behind_points: dict[str, float] = field(default_factory=dict[str, float])
    spending: Spending = field(default_factory=Spending)
    quota: Quota | None = None

    # ---- as stored

    def encode(self) -> bytes:
        return orjson.dumps(self)

    @classmethod
    def decode(cls, data: bytes, now: float) -> Ledger:
        """The ledger as read at ``now``. A renewal of the quota that no answer may name is brought within an hour from then.

        Raises ValueError, KeyError or TypeError for what ``encode`` has not made.
        """
        raw = orjson.loads(data)
        spending = Spending(**raw["spending"])
        spending.until = min(spending.until, now + LONGEST_PAUSE_SECONDS)
        return cls(
            creates=[(at, workspace) for at, workspace in raw["creates"]],
            points=[(at, cost) for at, cost in raw["points"]],
            last_write=raw["last_write"],
            under_way={name: _UnderWay(**ticket) for name, ticket in raw["under_way"].items()},
            reservations={uid: _Reservation(**reservation) for uid, reservation in raw["reservations"].items()},
            served=raw["served"],
            behind=raw["behind"],
            behind_points=raw["behind_points"],
            spending=spending,
            quota=Quota(**raw["quota"]).renewed_soon(now) if raw["quota"] else None,
        )

    # ---- operations

    def ask(self, ask: Ask, limits: Limits, now: float) -> Granted | Wait:
        """Start the request, or say when to ask again."""
        self._forget(limits, now)
        self.quota = newest(self.quota, ask.quota)
        write, creates = ask.method not in _READS, ask.method in _CREATING
        if write:
            self._expire(now)
        points = self._points_at(ask, limits, now)
        allowed = max(
            quota_allows_at(ask.job.urgency, self.quota, self.spending, now),
            points,
            self._concurrency_at(ask, limits, now),
        )
        turn = self._turn(ask.job, creates, limits, now) if write else now
        if max(allowed, turn) <= now + _CLOSE_ENOUGH:
            if ask.later:
                self._hold_place(ask.job, creates, now)
            else:
                self._start(ask, now)
            return Granted()
        if not write or turn <= now + _CLOSE_ENOUGH:
            # Drift work that finds no room does not come back for it.
            if points < allowed or ask.job.urgency != "desired":
                return Wait(allowed, reserved=False)
            if self._own(ask.job) is not None:
                return Wait(points, reserved=True)
            return self._wait_for_points(ask, points, limits, now)
        return self._reserve(ask.job, creates, max(allowed, turn), limits, now)

    def finish(self, ticket: str, limits: Limits, now: float, *, free: bool = False) -> None:
        """The answer is in, or there will be none. ``free``: the request took nothing from the quota."""
        done = self.under_way.pop(ticket, None)
        if done is not None:
            self._enter(done, limits, now)
            if free:
                self.spending.give_back(done.urgency)

    # ---- when

    def _turn(self, job: Job, creates: bool, limits: Limits, now: float) -> float:
        """When a write may start, after those that are before it in the line."""
        ahead = self._ahead(job, limits, now) if job.urgency != "interactive" else []
        at = max(now, self.last_write + limits.interval)
        if creates:
            made = [*self.creates, *((now, ticket.workspace) for ticket in self.under_way.values() if ticket.creates)]
            made += [(max(reserved, now), workspace) for reserved, creating, workspace in ahead if creating]
            at = max(at, made[-1][0] if ahead and made else 0.0)
            other = next((time for time, workspace in reversed(made) if workspace != job.workspace), 0.0)
            at = max([at, *(self._window_at(window, made, job, now, other) for window in limits.creates)])
        for reserved, *_ in ahead[bisect_right(ahead, at - limits.interval, key=_time) :]:
            if at <= reserved - limits.interval:
                break
            at = reserved + limits.interval
        return at

    def _ahead(self, job: Job, limits: Limits, now: float) -> list[tuple[float, bool, str]]:
        """(time, whether it creates, workspace) of the punctual objects before ``job`` in the line, in order.

        All who wait stand in one line. If two objects could each let the other go first, neither would ever go.
        """
        own = self._own(job)
        mine = (own.turn, own.place) if own is not None else (self._next_turn(job.workspace), inf)
        present = now - _PUNCTUAL_INTERVALS * limits.interval
        return sorted(
            (r.at, r.creates, r.workspace)
            for r in self.reservations.values()
            if r.at > present and (r.turn, r.place) < mine
        )

    def _next_turn(self, workspace: str) -> int:
        return 1 + max([self.served, *(r.turn for r in self.reservations.values() if r.workspace == workspace)])

    @staticmethod
    def _window_at(window: Window, made: list[tuple[float, str]], job: Job, now: float, other: float) -> float:
        """When ``window`` has room. ``other``: when another workspace created something last."""
        count = max(1, int(window.count * _SHARE_OF_CREATES[job.urgency]))
        at = made[-count][0] + window.kept if len(made) >= count else now
        alone = other + window.seconds * _PRESENT
        if alone > now:
            own = [time for time, workspace in made if workspace == job.workspace]
            most = max(1, int(count * _SHARE_OF_ONE_WORKSPACE))
            if len(own) >= most:
                # Not later than the other workspace is present: a time that was given out is not moved forward when it has gone.
                at = max(at, min(own[-most] + window.kept, alone))
        return at

    def _points_at(self, ask: Ask, limits: Limits, now: float) -> float:
        at, share = now, self._share_of_points(ask.job, now)
        for window in limits.points:
            budget = window.count * share - points_of(ask.method)
            spent = sum(ticket.points for ticket in self.under_way.values())
            counted = self.points[bisect_right(self.points, now - window.kept, key=_time) :]
            over = spent + sum(points for _, points in counted) - budget
            for time, points in counted:
                if over <= 0:
                    break
                over -= points
                at = max(at, time + window.kept)
            if over > 0:
                at = max(at, now + _LOOK_AGAIN)
        return at

    def _share_of_points(self, job: Job, now: float) -> float:
        if job.urgency != "desired" or self._own(job) is not None:
            return _SHARE[job.urgency]
        # Only those of its own workspace count. Otherwise a new workspace could read nothing while another's long line is served,
        # and would never get a reservation.
        expected = any(
            r.at > now - _EXPECTED_SECONDS for r in self.reservations.values() if r.workspace == job.workspace
        )
        return _SHARE_WITHOUT_RESERVATION if expected else _SHARE["desired"]

    def _concurrency_at(self, ask: Ask, limits: Limits, now: float) -> float:
        if limits.concurrent is None:
            return now
        return now if len(self.under_way) < limits.concurrent * _SHARE[ask.job.urgency] else now + _LOOK_AGAIN

    def _own(self, job: Job) -> _Reservation | None:
        """The object's reservation. Drift work on the same object has none, and must not postpone the object's own."""
        return self.reservations.get(job.uid) if job.urgency == "desired" else None

    # ---- changes

    def _start(self, ask: Ask, now: float) -> None:
        write = ask.method not in _READS
        if write:
            own = self.reservations.get(ask.job.uid)
            # An object that removes something only to make it again keeps its reservation for the second step.
            if own is not None and (ask.method in _CREATING or not own.creates):
                self.served = max(self.served, own.turn)
                del self.reservations[ask.job.uid]
            self.last_write = now
        self.under_way[ask.ticket] = _UnderWay(
            now + TICKET_SECONDS, points_of(ask.method), ask.method in _CREATING, ask.job.workspace, ask.job.urgency
        )
        self.spending.count(ask.job.urgency, self.quota, now)

    def _reserve(self, job: Job, creates: bool, at: float, limits: Limits, now: float) -> Wait:
        own = self._own(job)
        if own is not None:
            own.at, own.creates = max(own.at, at), own.creates or creates
            return Wait(own.at, reserved=True)
        if job.urgency != "desired" or not job.uid:
            return Wait(at, reserved=False)
        if not self._make_room(job.workspace):
            step = max((window.seconds / window.count for window in limits.creates), default=limits.interval)
            first = min(reservation.at for reservation in self.reservations.values())
            self.behind = max(self.behind, first, now) + step * _AHEAD_OF_TIME
            return Wait(self.behind, reserved=True)
        self.reservations[job.uid] = _Reservation(at, at, self._next_turn(job.workspace), creates, job.workspace)
        return Wait(at, reserved=True)

    def _hold_place(self, job: Job, creates: bool, now: float) -> None:
        """Reserve the present moment for a write that follows soon."""
        wanted = job.urgency == "desired" and job.uid and job.uid not in self.reservations
        if wanted and self._make_room(job.workspace):
            turn = self._next_turn(job.workspace)
            self.reservations[job.uid] = _Reservation(now, now, turn, creates, job.workspace)

    def _make_room(self, workspace: str) -> bool:
        """Whether there is room for one more reservation.

        When the ledger is full and ``workspace`` holds fewer than another, the workspace with the most loses its last one.
        """
        if len(self.reservations) < _MOST_RESERVATIONS:
            return True
        held = Counter(r.workspace for r in self.reservations.values())
        (most, count), *_ = held.most_common(1)
        if count <= held[workspace] + 1:
            return False
        theirs = (uid for uid, r in self.reservations.items() if r.workspace == most)
        del self.reservations[max(theirs, key=lambda uid: self.reservations[uid].place)]
        return True

    def _wait_for_points(self, ask: Ask, at: float, limits: Limits, now: float) -> Wait:
        """A time of its own for each, when its points are free. At the same moment only the first would find any."""
        share = self._share_of_points(ask.job, now)
        pace = max(window.seconds / (window.count * share) for window in limits.points)
        self.behind_points = {workspace: last for workspace, last in self.behind_points.items() if last > now}
        last = max(self.behind_points.get(ask.job.workspace, 0.0), at) + points_of(ask.method) * pace
        self.behind_points[ask.job.workspace] = last
        return Wait(last, reserved=True)

    def _enter(self, ticket: _UnderWay, limits: Limits, at: float) -> None:
        if ticket.creates and limits.creates:
            insort(self.creates, (at, ticket.workspace))
        if limits.points:
            grain = max(window.seconds for window in limits.points) / _SLOTS_PER_WINDOW
            # Rounded up to be safe: all points of a slot count as made at its end.
            slot = (at // grain + 1) * grain
            index = bisect_right(self.points, slot, key=_time)
            if index and self.points[index - 1][0] == slot:
                self.points[index - 1] = (slot, self.points[index - 1][1] + ticket.points)
            else:
                self.points.insert(index, (slot, ticket.points))

    def _forget(self, limits: Limits, now: float) -> None:
        for name, ticket in list(self.under_way.items()):
            if ticket.ends <= now:
                del self.under_way[name]
                self._enter(ticket, limits, ticket.ends)
        del self.creates[: bisect_right(self.creates, now - _longest(limits.creates), key=_time)]
        del self.points[: bisect_right(self.points, now - _longest(limits.points), key=_time)]

    def _expire(self, now: float) -> None:
        """Drop reservations that nobody used. This looks at all of them, so only writes do it."""
        unused = now - _GRACE_SECONDS
        for uid in [uid for uid, reservation in self.reservations.items() if reservation.at <= unused]:
            del self.reservations[uid]


def _time(entry: tuple[float, *tuple[object, ...]]) -> float:
    return entry[0]


def _longest(windows: Iterable[Window]) -> float:
    return max((window.kept for window in windows), default=0.0)
