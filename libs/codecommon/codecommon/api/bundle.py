"""Bundles: the files of one commit or checkout. They never enter kcp or an event; see ``codecommon.messaging.bundles``.

Digest, name and encoding are those of the Go provider.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from posixpath import normpath
from typing import Any, Final

import orjson

from codecommon.api.stored_size import stored_bytes

MOST_FILES: Final = 500
MOST_FILE_BYTES: Final = 2 * 1024 * 1024
MOST_BYTES: Final = 16 * 1024 * 1024
"""Of the contents of all files together."""
LONGEST_PATH: Final = 1024
"""Bytes."""
MOST_PATH_BYTES: Final = 256 * 1024
"""Of all paths together, as of ``stored_bytes``. The status of a commit names each of them, and kcp stores it three times as long
where it notes who wrote it.
"""

_NAME: Final = re.compile(r"bundle-[0-9a-f]{24}")
_DIGEST_PREFIX: Final = "sha256:"
_WRITTEN, _DELETED = b"\x01", b"\x00"
_FILES_FOLLOW: Final = b',"files":['
_MOST_AT_ONCE: Final = 6 * MOST_BYTES + 4 * 1024 * 1024
"""Of a bundle of the Go provider, which is one line. A character such as ``<`` takes six bytes of it."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class InvalidBundle(ValueError):
    """The files cannot be a bundle. The message says why, for the person who named them; it quotes paths, never contents."""


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One file. ``content``: UTF-8. ``delete``: the commit removes the path; ``content`` is empty then."""

    path: str
    content: bytes = b""
    delete: bool = False

    @classmethod
    def of_text(cls, path: str, text: str) -> BundleFile:
        """The file with that text. Raises ``InvalidBundle`` for half of a surrogate pair, which JSON can hold."""
        try:
            return cls(path, text.encode())
        except UnicodeEncodeError:
            raise InvalidBundle(f"{path!r} is not valid Unicode") from None


@dataclass(frozen=True)
class Bundle:
    """Files that are sorted by path, with clean paths and within the limits. ``build`` makes it.

    It may hold 16 MiB, so building, encoding and decoding it belong into a thread.
    """

    files: tuple[BundleFile, ...]
    sizes: tuple[int, ...]
    """The bytes of each file's content, in the order of ``files``."""
    digest: str
    """``sha256:`` and 64 hex digits."""

    @property
    def name(self) -> str:
        return bundle_name(self.digest)

    @cached_property
    def size(self) -> int:
        """The bytes of all contents."""
        return sum(self.sizes)

    @classmethod
    def build(cls, files: Iterable[BundleFile]) -> Bundle:
        """A bundle of ``files``, whose paths need not be clean. Raises ``InvalidBundle``."""
        by_path: dict[str, BundleFile] = {}
        path_bytes = 0
        for number, file in enumerate(files, 1):
            if number > MOST_FILES:
                raise InvalidBundle(f"more than {MOST_FILES} files; use several commits")
            path = clean_path(file.path)
            path_bytes += stored_bytes(path)
            if path_bytes > MOST_PATH_BYTES:
                raise InvalidBundle(f"the paths have more than {MOST_PATH_BYTES} bytes together; use several commits")
            if path in by_path:
                raise InvalidBundle(f"{path!r} is named twice")
            by_path[path] = BundleFile(path, b"" if file.delete else file.content, file.delete)
        if not by_path:
            raise InvalidBundle("no files")
        _require_no_file_above_another(by_path)
        ordered = tuple(by_path[path] for path in sorted(by_path))
        return cls(ordered, *_measured(ordered))

    def encode(self, scope: str, name: str) -> Iterator[bytes]:
        """The bundle as JSON, in parts. ``scope``: as of ``scope_of``; ``name``: under which it is stored.

        Each part holds one file at most, and each file is a line. A parser that is written in C keeps all threads waiting until
        it returns, so none is given the whole.
        """
        head = {"name": name, "digest": self.digest, "scope": scope, "size": self.size}
        yield orjson.dumps(head)[:-1] + _FILES_FOLLOW
        for number, (file, size) in enumerate(zip(self.files, self.sizes, strict=True)):
            entry: dict[str, Any] = {"path": file.path, "content": file.content.decode(), "size": size}
            entry["digest"] = file_digest(file)
            if file.delete:
                entry["delete"] = True
            yield (b",\n" if number else b"\n") + orjson.dumps(entry)
        yield b"\n]}"

    @classmethod
    def decode(cls, body: bytes) -> Bundle:
        """A bundle that ``encode``, or the Go provider, wrote. Its digest was compared with its files.

        Raises ``InvalidBundle`` for anything else.
        """
        try:
            digest, entries = _parsed(body)
            files = [
                BundleFile(str(e["path"]), (e.get("content") or "").encode(), bool(e.get("delete"))) for e in entries
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidBundle(f"not a bundle ({type(error).__name__}, {len(body)} bytes)") from None
        bundle = cls.build(files)
        if bundle.digest != digest:
            raise InvalidBundle("its digest is not that of its files")
        return bundle


def bundle_name(digest: str) -> str:
    """The name of the bundle with that digest."""
    return f"bundle-{digest.removeprefix(_DIGEST_PREFIX)[:24]}"


def is_bundle_name(name: str) -> bool:
    """Whether a bundle can have the name. Tenants write names into their objects, and a name becomes a part of a path."""
    return _NAME.fullmatch(name) is not None


def scope_of(cluster: str) -> str:
    """The folder of a workspace's bundles. ``cluster``: the ID of its logical cluster, as kcp has answered it."""
    return f"scope-{hashlib.sha256(cluster.encode()).hexdigest()[:32]}"


def file_digest(file: BundleFile) -> str:
    """The digest of a file's content."""
    return _DIGEST_PREFIX + hashlib.sha256(file.content).hexdigest()


def clean_path(path: str) -> str:
    r"""The path as git has it: ``a/../b``, ``.\b`` and `` b`` become ``b``.

    Raises ``InvalidBundle`` for a path that is absolute, leaves the repository, or lies in a ``.git``.
    """
    slashed = path.strip().replace("\\", "/")
    try:
        size = len(slashed.encode())
    except UnicodeEncodeError:
        raise InvalidBundle(f"path {path!r} is not valid Unicode") from None
    if "\0" in slashed:
        raise InvalidBundle(f"path {path!r} contains a NUL")
    if _CONTROL.search(slashed):
        raise InvalidBundle(f"path {path[:60]!r} contains a control character")
    if size > LONGEST_PATH:
        raise InvalidBundle(f"a path is longer than {LONGEST_PATH} bytes: {path[:60]!r}…")
    if slashed.startswith("/"):
        raise InvalidBundle(f"path {path!r} is absolute; name it from the root of the repository")
    clean = normpath(slashed) if slashed else "."
    parts = clean.split("/")
    if clean == ".":
        raise InvalidBundle(f"path {path!r} names no file")
    if parts[0] == "..":
        raise InvalidBundle(f"path {path!r} leaves the repository")
    # Some file systems do not tell cases apart, so git refuses all of them.
    if any(part.lower() == ".git" for part in parts):
        raise InvalidBundle(f"path {path!r} lies in .git")
    return clean


def _require_no_file_above_another(files: dict[str, BundleFile]) -> None:
    written = [path for path, file in files.items() if not file.delete]
    for path in written:
        parent, slash, _ = path.rpartition("/")
        while slash:
            if parent in files and not files[parent].delete:
                raise InvalidBundle(f"{parent!r} is a file, so {path!r} cannot be below it")
            parent, slash, _ = parent.rpartition("/")


def _measured(files: tuple[BundleFile, ...]) -> tuple[tuple[int, ...], str]:
    """The size of each file, and the digest of all. Raises ``InvalidBundle`` when they are too large."""
    marks = any(file.delete for file in files)
    sizes: list[int] = []
    whole, total = hashlib.sha256(), 0
    for file in files:
        content = file.content
        if len(content) > MOST_FILE_BYTES:
            raise InvalidBundle(f"{file.path!r} has {len(content)} bytes, more than {MOST_FILE_BYTES}")
        try:
            content.decode()
        except UnicodeDecodeError:
            raise InvalidBundle(f"{file.path!r} is not UTF-8") from None
        total += len(content)
        if total > MOST_BYTES:
            raise InvalidBundle(f"the files have more than {MOST_BYTES} bytes together; use several commits")
        sizes.append(len(content))
        whole.update(file.path.encode() + b"\0")
        if marks:
            whole.update((_DELETED if file.delete else _WRITTEN) + len(content).to_bytes(8, "big"))
        whole.update(content)
        whole.update(b"\0")
    return tuple(sizes), _DIGEST_PREFIX + whole.hexdigest()


def _parsed(body: bytes) -> tuple[str, list[dict[str, Any]]]:
    """The digest that the bundle claims, and its files as they are written down. Raises as indexing and parsing do."""
    end = body.find(b"\n")
    if not body[:end].endswith(_FILES_FOLLOW):
        if len(body) > _MOST_AT_ONCE:
            raise ValueError("too long")
        whole: dict[str, Any] = orjson.loads(body)
        return str(whole["digest"]), whole["files"]
    digest = str(orjson.loads(body[:end] + b"]}")["digest"])
    entries: list[dict[str, Any]] = []
    while True:
        start, end = end + 1, body.find(b"\n", end + 1)
        if end < 0:
            return digest, entries
        entries.append(orjson.loads(body[start:end].removesuffix(b",")))
        if len(entries) > MOST_FILES:
            raise ValueError("too many files")
