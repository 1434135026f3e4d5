"""How tests are spread over the workers of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from devstack.paths import REPOSITORY
from devstack.workers import TEST_BY_TEST, WITH_INSTALLATION, WITH_KCP, _Worker, needs_installation


@dataclass
class Collected:
    marks: tuple[str, ...]

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


@pytest.mark.parametrize("named", sorted({*WITH_KCP, *WITH_INSTALLATION, *TEST_BY_TEST}))
def test_every_file_that_has_a_place_of_its_own_is_there(named: str) -> None:
    assert (REPOSITORY / named).exists()


@pytest.mark.parametrize(
    ("file", "installation"),
    [
        ("tests/e2e/test_repositories.py", True),
        ("tests/e2e/test_one_that_is_new.py", True),
        ("tests/e2e/test_watcher.py", False),
        ("tests/contract/test_git_backend.py", False),
    ],
)
def test_what_a_file_needs_follows_from_its_name(file: str, installation: bool) -> None:
    assert needs_installation(file) == installation


@pytest.mark.parametrize(("marks", "wanted"), [((), False), (("slow", "nats"), False), (("slow", "e2e"), True)])
def test_kcp_is_started_for_tests_with_its_mark_alone(tmp_path: Path, marks: tuple[str, ...], wanted: bool) -> None:
    class Session:
        items = (Collected(()), Collected(marks))

    worker = _Worker(tmp_path / "run" / "kcp")
    worker.pytest_collection_finish(cast(pytest.Session, Session))
    assert (tmp_path / "run" / "wanted").exists() == wanted
