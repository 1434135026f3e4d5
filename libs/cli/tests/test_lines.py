"""What the supervisor writes on behalf of its children."""

from __future__ import annotations

import os

import pytest

from code_provider import lines


def test_a_disk_that_is_full_is_no_reason_to_stop_working(monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(lines, "_STDERR", full)
    try:
        lines._write("a line")
    finally:
        os.close(full)
