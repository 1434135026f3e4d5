"""Metrics about requests to git hosts. Served at ``/metrics`` by ``codecommon.process.health``."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

HOST_REQUESTS: Final = Counter(
    "code_host_requests",
    "Requests that were sent to a git host; status is the answer's, or the kind of failure without one.",
    ("method", "status", "host"),
)
CONDITIONAL_REQUESTS: Final = Counter(
    "code_host_conditional_requests",
    "Reads by what came of asking conditionally: hit (304, costs no quota), miss (changed), cold (nothing kept), off (does not "
    "pay for this credential).",
    ("result", "host"),
)
HOST_REFUSED: Final = Counter(
    "code_host_refused_requests",
    "Requests that were not sent because the host has not been answering.",
    ("host",),
)
HOSTS_DOWN: Final = Gauge(
    "code_hosts_down",
    "Hosts that are asked only now and then because they have not been answering.",
    ("host",),
)
HOST_BUSY: Final = Counter(
    "code_host_busy",
    "Objects that waited for a turn at a host, by why: share (others have the slots of a host that answers late), late (its "
    "request was given up for that), connection (there was no free one), recovering (the host has just come back), token (others "
    "were asking for the App's).",
    ("host", "why"),
)
