"""Metrics about requests to the gateway. Served at ``/metrics`` of the health port. No label holds what a stranger wrote."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

REQUESTS: Final = Counter(
    "code_http_requests",
    "Requests to the gateway; status 499: the client hung up before it was answered.",
    ("method", "route", "status"),
)
SECONDS: Final = Histogram(
    "code_http_request_seconds",
    "From the head of a request until its answer is written.",
    ("route",),
    buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 1, 5, 15, 30),
)
REFUSED: Final = Counter(
    "code_http_refused_requests",
    "Requests that were refused by a bound: head, body (too large), values (of JSON), full (too many bytes in flight), "
    "rate, calls (too many under way), untaken (too many bytes of answers), time.",
    ("bound",),
)
BYTES_IN_FLIGHT: Final = Gauge(
    "code_http_body_bytes_in_flight", "Bytes of the bodies of requests that are not answered yet."
)
