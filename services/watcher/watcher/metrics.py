"""The watcher's metrics, which ``codecommon.process.health`` serves."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

PUBLISHED: Final = Counter(
    "code_watcher_events_published", "Events that NATS acknowledged, by resource and reason.", ("resource", "reason")
)
PUBLISH_RETRIES: Final = Counter("code_watcher_publish_retries", "Publishes that NATS did not acknowledge in time.")
PENDING: Final = Gauge("code_watcher_events_pending", "Subjects whose newest event NATS has not acknowledged.")
STREAMS: Final = Gauge("code_watcher_streams_connected", "Watch streams that are open, by resource.", ("resource",))
LISTS: Final = Counter(
    "code_watcher_lists",
    "Lists from kcp, by resource. Each start or take-over needs one; any further list is a relist.",
    ("resource",),
)
STREAM_FAILURES: Final = Counter(
    "code_watcher_stream_failures", "Ends of a watch stream, by resource and what ended it.", ("resource", "cause")
)
UNDECODABLE: Final = Counter(
    "code_watcher_undecodable_objects",
    "Objects left out because they lack a field that every object has.",
    ("resource",),
)
# Not "endpoint": Prometheus' operator puts that on every target, and ours would be renamed.
OBJECTS: Final = Gauge("code_watcher_objects", "Objects in the index, by endpoint of kcp.", ("kcp_endpoint",))
LEADING: Final = Gauge(
    "code_watcher_leading", "Whether this replica is the active one, by endpoint of kcp.", ("kcp_endpoint",)
)
