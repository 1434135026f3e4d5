"""Metrics of the crawler. Served at ``/metrics`` by ``codecommon.process.health``."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

CRAWLS: Final = Counter(
    "code_crawls",
    "Looks at the packages of one owner by result: moved, quiet, failed (a list could not be read to its end), refused (by the "
    "host), over (nobody wants them any more), waiting (for a turn at the host), error.",
    ("result",),
)
CRAWL_SECONDS: Final = Histogram(
    "code_crawl_seconds",
    "How long a look at the packages of one owner took, waiting for the host included.",
    # From an owner without packages on a fast host to thousands of packages that are seen for the first time.
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0),
)
PACKAGES: Final = Counter(
    "code_crawl_packages",
    "Package objects that were created, updated, removed, or marked as stale.",
    ("action",),
)
