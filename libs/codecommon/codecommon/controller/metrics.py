"""Metrics that more than one service counts. Served at ``/metrics`` by ``codecommon.process.health``."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

RECONCILE_RESULTS: Final = Counter(
    "code_reconcile_results",
    "Reconciled objects by result: Ready, Released, Terminal, NotReady, Retryable; Skipped (paused, or not ours to "
    "release), Gone, Replaced (another object has the name), UnknownEndpoint, Error.",
    ("kind", "result"),
)
RECONCILE_SECONDS: Final = Histogram(
    "code_reconcile_seconds",
    "How long reconciling an object took, waiting for the host included.",
    ("kind",),
    # From an echo that is answered out of kcp's cache to an object that waits for a slow host.
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
RESYNC_PASSES: Final = Counter(
    "code_resync_passes",
    "Comparisons that the resync asked for: done, or put_off to the next turn, as for want of budget. "
    "(done + put_off) / done is the factor by which the interval is stretched.",
    ("result",),
)
MESSAGES_SET_ASIDE: Final = Counter(
    "code_messages_set_aside",
    "Messages taken out of the normal course: undecodable (moved to CODE_DEAD), poison (handling them ended the "
    "process, so they rest).",
    ("service", "why"),
)
