"""docs/conditions.md and the code name the same reasons and condition types."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs/conditions.md").read_text()
SOURCES = [
    path
    for folder in ("libs/codecommon/codecommon", "services")
    for path in (ROOT / folder).rglob("*.py")
    if "tests" not in path.parts and "testing" not in path.parts
]
REASON_AT = {
    "Terminal": 0,
    "NotReady": 0,
    "Retryable": 0,
    "announce": 0,
    "Refusal": 1,
    "condition": 2,
    "require_eldest": 2,
}
"""Functions that are given a reason, and which argument it is."""


def _table(heading: str) -> set[str]:
    section = DOCUMENT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def _constants(tree: ast.Module) -> dict[str, str]:
    """Module-level names that hold a string."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign | ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for target in ([node.target] if isinstance(node, ast.AnnAssign) else node.targets)
        if isinstance(target, ast.Name)
    }


def _calls() -> Iterator[tuple[str, list[str | None]]]:
    """(function, its leading arguments where they are strings) of every call in the code."""
    trees = [ast.parse(path.read_text()) for path in SOURCES]
    constants = {name: value for tree in trees for name, value in _constants(tree).items()}

    def text(node: ast.expr) -> str | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
        return constants.get(name or "")

    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                function = node.func
                name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                yield name, [text(argument) for argument in node.args]


def test_every_reason_in_the_code_is_documented_and_every_documented_one_is_in_the_code() -> None:
    used = {"ValidationFailed"}  # Validated's reason when Ready has the precise one, chosen in an if
    for name, arguments in _calls():
        at = REASON_AT.get(name)
        if at is not None and len(arguments) > at and (reason := arguments[at]):
            used.add(reason)
    assert used == _table("Reasons")


def test_every_condition_type_in_the_code_is_documented_and_the_other_way_round() -> None:
    used = {arguments[0] for name, arguments in _calls() if name == "condition" and len(arguments) > 2}
    assert used - {None} == _table("Types")
