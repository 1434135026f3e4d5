"""Figures about requests to git hosts."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter


class HostMetrics:
    """Counters of one process; ``registry`` is the process's unless a test gives its own."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._requests = Counter(
            "code_host_requests",
            "Requests that were sent to a git host; status is the answer's, or the kind of failure without one.",
            ("method", "status", "host"),
            registry=registry,
        )

    def count_request(self, method: str, status: str, host: str) -> None:
        """Count one request. ``host`` is bounded by the operator: see ``transport.host_label``."""
        self._requests.labels(method, status, host).inc()
