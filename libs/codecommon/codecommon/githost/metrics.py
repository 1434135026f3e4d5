"""Figures about requests to git hosts. Served at ``/metrics`` by ``codecommon.health``."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter

HOST_REQUESTS: Final = Counter(
    "code_host_requests",
    "Requests that were sent to a git host; status is the answer's, or the kind of failure without one.",
    ("method", "status", "host"),
)
