"""What the images' HEALTHCHECK runs: exit code 0 if the provider's process in this container is healthy, 1 if not.

``serve`` and the gateway answer at ``PORT``, any other service at ``CODE_HEALTH_PORT``. A container runs one of them, so either
answer will do. ``init`` is not asked: it ends before the first check.
"""

from __future__ import annotations

import os
import sys
import urllib.request

TIMEOUT = 4.0


def healthy(url: str) -> bool:
    try:
        # Straight to this container, whatever proxies are set for git hosts.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=TIMEOUT) as answer:
            return answer.status == 200
    except (OSError, ValueError):
        return False


def urls(environ: dict[str, str]) -> list[str]:
    return [
        f"http://127.0.0.1:{environ.get('PORT') or '8083'}/healthz",
        f"http://127.0.0.1:{environ.get('CODE_HEALTH_PORT') or '8081'}/livez",
    ]


if __name__ == "__main__":
    sys.exit(not any(healthy(url) for url in urls(dict(os.environ))))
