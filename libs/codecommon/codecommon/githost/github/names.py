"""GitHub's rules for the names of accounts and repositories. Pure."""

from __future__ import annotations

import re
from typing import Final

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal

_REPOSITORY_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_RESERVED_ENDINGS: Final = (".git", ".wiki")
# Wider than GitHub's own rule: managed users have an underscore, bots end with [bot]. Enough to be one segment of a path.
_LOGIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}(?:\[bot\])?")


def check_repository_name(name: str) -> None:
    """Raises ``Terminal`` (``InvalidName``) for a name that GitHub would alter or that is not one segment of a URL."""
    if not _REPOSITORY_NAME.fullmatch(name):
        raise _invalid("a repository's name has 1 to 100 characters out of A-Z, a-z, 0-9, '.', '_' and '-'")
    if name in (".", "..") or name.lower().endswith(_RESERVED_ENDINGS):
        raise _invalid(f"the repository name {name} is reserved by the host")


def check_owner(owner: str) -> None:
    """Raises ``Terminal`` (``InvalidName``) for what cannot be the login of an account."""
    if not is_login(owner):
        raise _invalid("the owner is not the login of a user or an organisation")


def is_login(name: str) -> bool:
    """Whether ``name`` can be the login of an account."""
    return _LOGIN.fullmatch(name) is not None


def _invalid(message: str) -> Terminal:
    return Terminal(Reason.INVALID_NAME, message)
