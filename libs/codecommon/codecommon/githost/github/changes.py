"""From the changes that a commit is to make, and the tree that it begins with, to what GitHub is sent. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from codecommon.api.reasons import Reason
from codecommon.api.results import Terminal
from codecommon.githost.contents import FileChange, blob_sha, is_path, is_text

WORKFLOWS: Final = ".github/workflows/"

# GitHub ends a request after 10 s, so what it has to do in one is bounded.
_MOST_INLINE_BYTES: Final = 2 * 1024 * 1024
_MOST_ENTRIES: Final = 200
_FILE: Final = "100644"
_EXECUTABLE: Final = "100755"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a tree as GitHub lists it. ``path``: from the root. ``kind``: blob, tree or commit (a submodule)."""

    path: str
    mode: str
    kind: str
    sha: str
    size: int


@dataclass(frozen=True, slots=True)
class Change:
    """One path of the new tree. ``content`` None: the path is to be gone. ``sha``: of the content.

    ``is_inline``: it travels as text within the tree. What is longer, empty, or no text is uploaded on its own.
    """

    path: str
    mode: str
    content: bytes | None
    sha: str | None
    is_inline: bool


def parse_tree(body: bytes, below: str = "") -> tuple[list[Entry], bool]:
    """The entries of an answer about a tree, and whether GitHub left some out. Raises ValueError for anything else.

    ``below``: the path of the tree, with a slash at its end.
    """
    value: Any = orjson.loads(body)
    entries: list[Entry] = []
    try:
        for item in value["tree"]:
            path, mode, kind, sha = item["path"], item["mode"], item["type"], item["sha"]
            size = item.get("size") or 0
            if not (
                isinstance(path, str)
                and isinstance(mode, str)
                and isinstance(kind, str)
                and isinstance(sha, str)
                and isinstance(size, int)
                # It is what memory is reserved by.
                and size >= 0
            ):
                raise ValueError("an entry of another form")
            entries.append(Entry(below + path, mode, kind, sha, size))
        return entries, bool(value.get("truncated"))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not a tree") from error


def check_paths(changes: Iterable[FileChange]) -> None:
    """Raises ``Terminal`` (``ValidationFailed``) for a path that no file can have, or that is there twice."""
    seen: set[str] = set()
    for change in changes:
        if not is_path(change.path):
            raise _invalid("a path is not relative, has empty parts, or leads into .git")
        if change.path in seen:
            raise _invalid(f"the path {change.path} is there twice")
        seen.add(change.path)


def relevant_paths(changes: Iterable[FileChange]) -> set[str]:
    """The paths of the changes, and the folders that lead to them."""
    return {prefix for change in changes for prefix in (change.path, *folders_of(change.path))}


def folders_of(path: str) -> Iterator[str]:
    """The folders above the path, the outermost first."""
    position = path.find("/")
    while position != -1:
        yield path[:position]
        position = path.find("/", position + 1)


def decide_changes(
    changes: Sequence[FileChange], there: Mapping[str, Entry], occupied: Iterable[str] = ()
) -> list[Change]:
    """What differs from ``there``, what is to be gone first.

    ``there``: the entries at ``relevant_paths``. ``occupied``: folders that keep a file. Raises ``Terminal``
    (``ValidationFailed``) where a path would be both a file and a folder.
    """
    gone = {change.path for change in changes if change.content is None}
    writes = {change.path for change in changes if change.content is not None}
    kept = set(occupied)
    decided: list[Change] = []
    for change in changes:
        entry = there.get(change.path)
        if change.content is None:
            if entry is not None and entry.kind != "tree":
                decided.append(Change(change.path, entry.mode, None, None, is_inline=False))
            continue
        for folder in folders_of(change.path):
            above = there.get(folder)
            if folder in writes or (above is not None and above.kind != "tree" and folder not in gone):
                raise _invalid(f"{change.path} cannot be there, because {folder} is no folder")
        if entry is not None and entry.kind == "commit":
            raise _invalid(f"{change.path} is a submodule")
        if entry is not None and entry.kind == "tree" and change.path in kept:
            raise _invalid(f"{change.path} cannot be a file, because it is a folder with files")
        sha = blob_sha(change.content)
        is_file = entry is not None and entry.mode in (_FILE, _EXECUTABLE)
        if entry is not None and is_file and entry.sha == sha:
            continue
        mode = entry.mode if entry is not None and is_file else _FILE
        # The API may take an empty text for a missing one.
        is_inline = 0 < len(change.content) <= _MOST_INLINE_BYTES and is_text(change.content)
        decided.append(Change(change.path, mode, change.content, sha, is_inline))
    return sorted(decided, key=lambda change: (change.content is not None, change.path))


def chunks(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """The changes in their order, each part small enough for one request.

    What makes room for a file below or above it is in a part of its own, before that file.
    """
    part: list[Change] = []
    length = 0
    makes_room = _makes_room(changes)
    for change in changes:
        inline = len(change.content) if change.content is not None and change.is_inline else 0
        turns = makes_room and bool(part) and (part[-1].content is None) != (change.content is None)
        if part and (turns or len(part) >= _MOST_ENTRIES or length + inline > _MOST_INLINE_BYTES):
            yield part
            part, length = [], 0
        part.append(change)
        length += inline
    if part:
        yield part


def _makes_room(changes: Sequence[Change]) -> bool:
    gone = {change.path for change in changes if change.content is None}
    written = {change.path for change in changes if change.content is not None}
    return any(folder in gone for path in written for folder in folders_of(path)) or any(
        folder in written for path in gone for folder in folders_of(path)
    )


def tree_entry(change: Change) -> dict[str, Any]:
    """The change as the API takes it. What is not inline must have been uploaded."""
    entry: dict[str, Any] = {"path": change.path, "mode": change.mode, "type": "blob"}
    if change.mode == "160000":
        entry["type"] = "commit"
    if change.is_inline and change.content is not None:
        entry["content"] = change.content.decode()
    else:
        entry["sha"] = change.sha
    return entry


def _invalid(what: str) -> Terminal:
    return Terminal(Reason.VALIDATION_FAILED, what)
