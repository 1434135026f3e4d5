"""Metrics about requests to git hosts. Served at ``/metrics`` by ``codecommon.process.health``."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

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
    "were asking for the App's), download (others were reading files that it leads to).",
    ("host", "why"),
)
# The label of the following is the host whose answer led there. Where it leads is what an answer says, so it is no label.
HOST_DOWNLOADS: Final = Counter(
    "code_host_downloads",
    "Archives and logs that a host has led to, by result: read (as far as was wanted), gone (404), refused (an address that is "
    "not to be followed), failed (no whole answer in time), dropped (of no use, or whoever read it has gone).",
    ("result", "host"),
)
HOST_DOWNLOAD_BYTES: Final = Counter(
    "code_host_download_bytes",
    "Bytes of the archives and logs that a host has led to, as they came.",
    ("host",),
)
HOST_DOWNLOAD_SECONDS: Final = Histogram(
    "code_host_download_seconds",
    "How long reading an archive or a log took, from the request until whoever read it was done.",
    ("host",),
    # From a short log to the deadline of a download.
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
