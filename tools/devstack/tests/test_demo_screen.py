"""What the demonstration shows of an object, and when it shows it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from devstack.demo.screen import Row, Screen


def state(kind: str, status: str, reason: str = "Because", message: str = "of this") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 2}


def row(*conditions: dict[str, Any], **status: str) -> Row:
    manifest = {"metadata": {"generation": 2}, "status": {"conditions": list(conditions), **status}}
    return Row("team-a", "Repository", "website", manifest)


@pytest.mark.parametrize(
    ("shown", "ready", "message"),
    [
        (Row("team-a", "Repository", "website", None), "-", "does not exist"),
        (row(), "-", "waiting for the provider"),
        (row(state("Ready", "True"), htmlURL="https://git.test/acme/website"), "True", "https://git.test/acme/website"),
        (row(state("Ready", "True"), login="ada"), "True", "logged in as ada"),
        (row(state("Ready", "False", "Refused", "no scope")), "False", "Refused: no scope"),
        (row(state("Ready", "False"), state("Stalled", "True", "Refused", "no scope")), "False", "Refused: no scope"),
        (row(state("Reconciling", "True", "RateLimited", "soon")), "-", "RateLimited: soon"),
    ],
)
def test_a_row_says_where_the_object_is_or_why_it_is_not_ready(shown: Row, ready: str, message: str) -> None:
    assert (shown.ready, shown.message) == (ready, message)


def test_without_a_terminal_a_line_is_added_only_when_something_changed() -> None:
    written = io.StringIO()
    screen = Screen(Console(file=written, soft_wrap=True, highlight=False))
    with screen.table():
        for _ in range(3):
            screen.show(row())
        screen.show(row(state("Ready", "True"), htmlURL="https://git.test/acme/website"))
    lines = written.getvalue().splitlines()
    assert len(lines) == 2
    assert "Ready=True" in lines[1]
    assert lines[1].endswith("https://git.test/acme/website")


def test_on_a_terminal_the_table_holds_every_object_once() -> None:
    written = io.StringIO()
    screen = Screen(Console(file=written, force_terminal=True, width=160, highlight=False, _environ={}))
    with screen.table():
        screen.show(row())
        screen.show(row(state("Ready", "True"), htmlURL="https://git.test/acme/website"))
    last_frame = written.getvalue().rpartition("after ")[2]
    assert last_frame.count("website") == 2  # its name and its URL
