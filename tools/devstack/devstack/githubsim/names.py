"""The rules for a repository's name and description."""

from __future__ import annotations

import re

MAX_NAME_LENGTH = 100
MAX_DESCRIPTION_LENGTH = 350

_REFUSED_RUN = re.compile(r"[^A-Za-z0-9._-]+")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


class InvalidText(Exception):
    """The host refuses this name or description; the text of the error is the host's."""


class NameTaken(Exception):
    """The account already has a repository or a package of this name, or the host an account of this login."""


def repository_name(requested: str) -> str:
    """The name that a repository gets when `requested` is asked for.

    Every run of characters outside `[A-Za-z0-9._-]` becomes one `-`; the length is checked afterwards.
    Raises InvalidText for an empty, reserved or too long name.
    """
    name = _REFUSED_RUN.sub("-", requested)
    if not name:
        raise InvalidText("name is too short (minimum is 1 character)")
    if name in (".", "..") or name.lower().endswith((".git", ".wiki")):
        raise InvalidText("name is reserved")
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidText(f"name is too long (maximum is {MAX_NAME_LENGTH} characters)")
    return name


def description(requested: str) -> str:
    """The description as it is stored. Raises InvalidText for control characters (a newline is one) or excess length."""
    if _CONTROL_CHARACTER.search(requested):
        raise InvalidText("description control characters are not allowed")
    if len(requested) > MAX_DESCRIPTION_LENGTH:
        raise InvalidText(f"description is too long (maximum is {MAX_DESCRIPTION_LENGTH} characters)")
    return requested
