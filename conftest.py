"""What all tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest

AUTHORITY = Path(__file__).parent / "tests/fixtures/authority.pem"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected, and the modules for it, stay until the end: garbage is not looked for among so many objects."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def one_authority(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests talk to the loopback interface, where no public authority counts.

    A TLS context that trusts those of the system takes 25 to 60 ms, which was a sixth of the time of all fast tests. The
    provider that end-to-end tests start trusts them as ever, and so do the contract tests on a real host.
    """
    if request.node.get_closest_marker("e2e") is None and "GITHUB_TOKEN" not in os.environ:
        monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
