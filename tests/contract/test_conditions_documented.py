"""Every condition type and reason that is documented is one that the code uses, by its member and never by its text."""

from __future__ import annotations

import ast
from enum import StrEnum
from functools import cache
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


@cache
def nodes() -> tuple[list[ast.Attribute], list[tuple[str, ast.Call]]]:
    """The attributes, and the calls with where they stand, of all sources. A walk through them takes a second."""
    attributes: list[ast.Attribute] = []
    calls: list[tuple[str, ast.Call]] = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute():
                    attributes.append(node)
                case ast.Call():
                    calls.append((f"{path.relative_to(ROOT)}:{node.lineno}", node))
    return attributes, calls


@pytest.mark.parametrize("enumeration", [ConditionType, Reason])
def test_every_member_is_used(enumeration: type[StrEnum]) -> None:
    attributes, _ = nodes()
    used = {
        node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == enumeration.__name__
    }
    assert set(enumeration.__members__) - used == set()


@pytest.mark.parametrize("function", ["Terminal", "NotReady", "Retryable", "condition"])
def test_no_reason_is_written_as_text(function: str) -> None:
    _, calls = nodes()
    literal = [
        place
        for place, node in calls
        if getattr(node.func, "id", getattr(node.func, "attr", "")) == function
        and any(isinstance(a, ast.Constant) and a.value in (*Reason, *ConditionType) for a in node.args[:3])
    ]
    assert literal == []
