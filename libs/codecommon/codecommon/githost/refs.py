"""Git's own rule for the names of branches, which holds on every host."""

from __future__ import annotations

import re
from typing import Final

# git-check-ref-format(1), as far as it keeps a name inside its segment of a URL.
_NOT_IN_A_BRANCH: Final = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|^[-/]|[/.]$|(^|/)\.|\.lock(/|$)")


def is_branch_name(branch: str) -> bool:
    """Whether git accepts ``branch`` as the name of a branch."""
    return bool(branch) and not _NOT_IN_A_BRANCH.search(branch)
