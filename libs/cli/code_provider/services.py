"""The services by name. Nothing of a service is imported before it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Final

# Names of distributions; a package has an underscore for the hyphen.
SERVICES: Final = ("watcher", "connection-svc", "repository-svc", "access-svc", "package-crawler", "gateway")


def main_of(service: str) -> Callable[[], int]:
    """Import the service. The result runs it until it is asked to stop, and ends with ``SystemExit``."""
    main: Callable[[], None] = importlib.import_module(f"{service.replace('-', '_')}.__main__").main

    def run() -> int:
        main()
        return 0

    return run
