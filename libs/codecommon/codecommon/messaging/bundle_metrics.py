"""Metrics about the bundle store. Served at ``/metrics`` by ``codecommon.process.health``. No label names a workspace."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

BUNDLE_OPERATIONS: Final = Counter(
    "code_bundle_operations",
    "What was done with the bundle store (operation: find, put, read, remove) by result: done, missing (there is no such bundle, "
    "yet or any more), full (no room), invalid (what is stored is no bundle), unavailable (the store does not answer), dropped.",
    ("operation", "result"),
)
BUNDLE_BYTES: Final = Counter(
    "code_bundle_bytes",
    "Bytes of the files in the bundles that were put and read.",
    ("operation",),
)
BUNDLE_SECONDS: Final = Histogram(
    "code_bundle_operation_seconds",
    "How long an operation on the bundle store took, encoding and decoding the bundle included.",
    ("operation",),
    # From a few files to 16 MiB on a busy disk.
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
