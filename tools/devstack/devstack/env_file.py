"""``.env``: a developer's own settings of ``make up``. ``.env.example`` beside it explains every line."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Self

from dotenv.parser import parse_stream

from devstack.environment import PASSED_ON_PREFIX, PROXIES
from devstack.errors import StackError

NAMES: Final = (
    "GITHUB_OAUTH_CLIENT_ID",
    "GITHUB_OAUTH_CLIENT_SECRET",
    "GITHUB_OAUTH_REDIRECT_URL",
    "GITHUB_OAUTH_PORTAL_ORIGIN",
    "GITHUB_OAUTH_BASE_URL",
    "GITHUB_OAUTH_SCOPES",
    "GITHUB_OAUTH_COOKIE_KEYS",
    "GITHUB_TOKEN",
    "GITHUB_OWNER",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    *PROXIES,
    "CODE_DEV_KUBECONFIG",
    "CODE_LOG_LEVEL",
    "CODE_MAX_IN_FLIGHT",
)
"""What may stand in it, besides what begins with ``OTEL_``."""

_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


@dataclass(frozen=True)
class EnvFile:
    """`values` by name, and the line of each, from 1. Its repr shows no value."""

    path: Path = Path(".env")
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    lines: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """An empty one if there is no file. Raises `StackError`, which names every bad line and never its value."""
        try:
            text = path.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            return cls(path)
        except (OSError, UnicodeDecodeError) as problem:
            raise StackError(f"{path.name} cannot be read: {problem}") from None
        values: dict[str, str] = {}
        lines: dict[str, int] = {}
        problems: list[str] = []
        # Nothing is put in for ${…}: a secret may hold it.
        for found in parse_stream(io.StringIO(text)):
            problem = _problem(found.key, found.value, lines, broken=found.error)
            # What it found begins with the blank lines before.
            original = found.original.string
            line = found.original.line + original[: len(original) - len(original.lstrip())].count("\n")
            if problem:
                problems.append(f"{path.name}, line {line}: {problem}")
            elif found.key and found.value:
                values[found.key], lines[found.key] = found.value, line
        if problems:
            raise StackError("\n".join(problems))
        return cls(path, values, lines)

    def explain(self, problem: StackError, environ: Mapping[str, str]) -> str:
        """What is wrong, with the line to change if it is a variable that comes from here and not from `environ`."""
        text = str(problem)
        name = re.match(r"[A-Z_]*", text)
        line = self.lines.get(name[0]) if name and name[0] not in environ else None
        return f"{self.path.name}, line {line}: {text}" if line else text


def _problem(name: str | None, value: str | None, seen: Mapping[str, int], *, broken: bool) -> str | None:
    if name is None and not broken:
        return None
    if name in NAMES and value is None:
        return f"{name} has no value; write {name}=value, or remove the line"
    if name is None or value is None:
        # Without what stands there, which may be a secret.
        return "it is not NAME=value; put a value with spaces or # in quotes, and close every quote"
    if name not in NAMES and not name.startswith(PASSED_ON_PREFIX):
        near = get_close_matches(name.upper(), NAMES, n=1)
        # What stands before the = may be a secret that ends with it.
        shown = name if _NAME.fullmatch(name) else "its name"
        return f"{shown} is not known; " + (f"did you mean {near[0]}?" if near else ".env.example lists what is")
    if name in seen:
        return f"{name} is set in line {seen[name]}, too; remove one of them"
    return None
