"""What the tests of the Helm chart share."""

from __future__ import annotations

import pytest
from rendering import EXAMPLES


@pytest.fixture(params=list(EXAMPLES))
def installation(request: pytest.FixtureRequest) -> str:
    """The name of each example, one after the other."""
    return request.param
