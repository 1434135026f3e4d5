"""What was asked of the simulated API, for tests to read.

An entry names the caller by login. The value of a credential is never recorded: not from the
Authorization header, and not from a path into which a client put one by mistake.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from devstack.githubsim.identifiers import TOKEN_SHAPE, request_id

MAX_ENTRIES = 200_000
"""Older entries are dropped; the totals keep counting."""

UNKNOWN = "unknown"
"""The login recorded for a credential that the simulator never issued."""


@dataclass(slots=True)
class Entry:
    """One request.

    `request_id` is what the answer's `X-GitHub-Request-Id` says. `login` is None for an anonymous request,
    `operation` for a path that is not served, `status` while the request is under way or if a fault
    withheld the answer. Times are the simulator's clock.
    """

    sequence: int
    request_id: str
    method: str
    path: str
    started: float
    login: str | None = None
    operation: str | None = None
    status: int | None = None
    not_modified: bool = False
    fault: str | None = None
    finished: float | None = None


class Journal:
    """The requests so far, and the figures over them."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._in_flight_by_login: Counter[str] = Counter()
        self._sequence = 0
        self.clear()

    def clear(self) -> None:
        """Forget entries and figures; requests under way are still counted as in flight."""
        self.entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self.total = 0
        self.unknown_credentials = 0
        self.max_in_flight = self._in_flight
        self.max_in_flight_by_login: dict[str, int] = {
            login: count for login, count in self._in_flight_by_login.items() if count
        }

    def begin(self, method: str, path: str, now: float) -> Entry:
        self._sequence += 1
        self.total += 1
        identifier = request_id(self._sequence, now)
        entry = Entry(self._sequence, identifier, method, TOKEN_SHAPE.sub("[credential]", path), now)
        self.entries.append(entry)
        self._in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        return entry

    def identify(self, entry: Entry, login: str) -> None:
        """Record who is asking; `login` may be UNKNOWN."""
        entry.login = login
        if login == UNKNOWN:
            self.unknown_credentials += 1
        self._in_flight_by_login[login] += 1
        most = self.max_in_flight_by_login.get(login, 0)
        self.max_in_flight_by_login[login] = max(most, self._in_flight_by_login[login])

    def end(self, entry: Entry, now: float) -> None:
        entry.finished = now
        self._in_flight -= 1
        if entry.login is not None:
            self._in_flight_by_login[entry.login] -= 1
