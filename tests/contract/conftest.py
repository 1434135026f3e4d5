"""Contract tests hold a fake and the real thing to the same cases; the real things come from `devstack.fixtures`."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.import_plugin("devstack.fixtures")
