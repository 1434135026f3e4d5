"""Every condition type and reason that is documented is one that the code uses, by its member and never by its text."""

from __future__ import annotations

import ast
from enum import StrEnum
from pathlib import Path

import pytest

from codecommon.api.reasons import ConditionType, Reason

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for folder in ("libs/codecommon/codecommon", "services")
    for path in (ROOT / folder).rglob("*.py")
    if "tests" not in path.parts and "testing" not in path.parts and path.name != "reasons.py"
]
TREES = {path: ast.parse(path.read_text()) for path in SOURCES}


@pytest.mark.parametrize("enumeration", [ConditionType, Reason])
def test_every_member_is_used(enumeration: type[StrEnum]) -> None:
    used = {
        node.attr
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == enumeration.__name__
    }
    assert set(enumeration.__members__) - used == set()


@pytest.mark.parametrize("function", ["Terminal", "NotReady", "Retryable", "condition"])
def test_no_reason_is_written_as_text(function: str) -> None:
    literal = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) == function
        and any(isinstance(a, ast.Constant) and a.value in (*Reason, *ConditionType) for a in node.args[:3])
    ]
    assert literal == []
