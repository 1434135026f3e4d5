"""How tests are spread over the workers of a run."""

from __future__ import annotations

import pytest

from devstack.paths import REPOSITORY
from devstack.workers import TEST_BY_TEST, WITH_INSTALLATION, WITH_KCP, needs_installation, needs_kcp


@pytest.mark.parametrize("named", sorted({*WITH_KCP, *WITH_INSTALLATION, *TEST_BY_TEST}))
def test_every_file_that_has_a_place_of_its_own_is_there(named: str) -> None:
    assert (REPOSITORY / named).exists()


@pytest.mark.parametrize(
    ("file", "kcp", "installation"),
    [
        ("tests/e2e/test_repositories.py", True, True),
        ("tests/e2e/test_one_that_is_new.py", True, True),
        ("tests/e2e/test_watcher.py", True, False),
        ("tests/contract/test_git_backend.py", False, False),
    ],
)
def test_what_a_file_needs_follows_from_its_name(file: str, kcp: bool, installation: bool) -> None:
    assert (needs_kcp(file), needs_installation(file)) == (kcp, installation)
