"""``code-provider serve`` whose cache of a host's answers has room for a few of them, and whose hours last seconds."""

from __future__ import annotations

import sys
import time
from functools import partial

from code_provider.__main__ import main
from codecommon.githost import registry as hosts
from codecommon.githost.http.conditional import Conditional

MOST_BYTES = 64 * 1024
HOUR_SECONDS = 8.0


def clock() -> float:
    return time.monotonic() * 3600.0 / HOUR_SECONDS


if __name__ == "__main__":
    # The services are forked from this process.
    hosts.Conditional = partial(Conditional, most_bytes=MOST_BYTES, clock=clock)
    sys.exit(main(["serve"]))
