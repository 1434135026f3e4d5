"""Metrics that more than one service counts. Served at ``/metrics`` by ``codecommon.process.health``."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

RECONCILE_RESULTS: Final = Counter(
    "code_reconcile_results",
    "Passes over an object by what came of them: Ready, Released, Gone, Terminal, NotReady, Retryable, Error.",
    ("kind", "result"),
)
RECONCILE_SECONDS: Final = Histogram(
    "code_reconcile_seconds",
    "How long a pass over an object took, waiting for the host included.",
    ("kind",),
    # From an echo that is answered out of kcp's cache to a pass that waits for a slow host.
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
RESYNC_PASSES: Final = Counter(
    "code_resync_passes",
    "Passes that the resync asked for by what came of them: done, or put_off to their next turn, as for want of budget. "
    "All of them by those done is how far the interval is stretched.",
    ("result",),
)
MESSAGES_SET_ASIDE: Final = Counter(
    "code_messages_set_aside",
    "Messages taken out of the normal course: undecodable (moved to CODE_DEAD), deadly (their handler ended its process).",
    ("service", "why"),
)
