"""What the tests of the Helm chart share."""

from __future__ import annotations

import os

import pytest
from rendering import EXAMPLES

# What needs tools of its own is left out unless its target of make asks for it.
collect_ignore = [f"test_{name}.py" for name in ("kubernetes", "helm3") if os.environ.get("CODE_CHART_TESTS") != name]


@pytest.fixture(params=list(EXAMPLES))
def installation(request: pytest.FixtureRequest) -> str:
    """The name of each example, one after the other."""
    return request.param
