"""The files in an archive of a repository (tar.gz), read as it comes. Pure: nothing is written and nothing is extracted.

Archives come from whoever answers, so everything in them is bounded. ``tarfile`` reads the extended headers of an entry whole,
however long they say they are, so it is not used. What git itself writes is all that is understood.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, Literal

_BLOCK: Final = 512
# Of what is packed a thousandfold, no more than this is unpacked at a time.
_STEP: Final = 64 * 1024
# A path, and a few words about it.
_LONGEST_EXTENDED_HEADER: Final = 16 * 1024
_FILE: Final = b"0"
_FILE_OF_OLD: Final = b"\x00"
_EXTENDED: Final = b"x"
_EXTENDED_FOR_ALL: Final = b"g"


class ArchiveRefused(Exception):
    """It is not an archive as git writes it, or it is longer than allowed."""


class ArchiveReader:
    """Feed it the bytes. ``take`` gets each wanted file as it is complete: its path below the archive's one folder, its content.

    ``wanted`` tells from path and size whether a file is to be kept until then. ``most_bytes``: of the unpacked archive.
    ``most_entries``: files, folders and links. Every method raises ``ArchiveRefused``.
    """

    def __init__(
        self,
        wanted: Callable[[str, int], bool],
        take: Callable[[str, bytes], None],
        *,
        most_bytes: int,
        most_entries: int,
    ) -> None:
        self._wanted = wanted
        self._take = take
        self._left = most_bytes
        self._entries = most_entries
        # An entry has one extended header at most, and so has the archive.
        self._headers = 2 * most_entries + 1
        self._unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._buffer = bytearray()
        self._state: Literal["header", "skip", "file", "extended", "end"] = "header"
        # Bytes of the entry's content that are still to come, and of the blanks behind it.
        self._content = 0
        self._blanks = 0
        self._path: str | None = ""
        self._long_path: str | None = None

    @property
    def is_at_end(self) -> bool:
        """Whether the archive's own end has been seen."""
        return self._state == "end"

    def feed(self, packed: bytes) -> None:
        """Work on the next bytes. It takes time in proportion to what they unpack to, so call it off the event loop."""
        while packed and not self._unzip.eof:
            try:
                piece = self._unzip.decompress(packed, _STEP)
            except zlib.error:
                raise ArchiveRefused("the archive cannot be unpacked") from None
            packed = self._unzip.unconsumed_tail
            self._left -= len(piece)
            if self._left < 0:
                raise ArchiveRefused("the archive is too long")
            self._buffer += piece
            while self._advance():
                pass

    def _advance(self) -> bool:
        """One step; False: more bytes are needed, or there is nothing to do any more."""
        match self._state:
            case "header":
                if len(self._buffer) < _BLOCK:
                    return False
                self._header(self._pop(_BLOCK))
            case "skip":
                gone = min(len(self._buffer), self._content + self._blanks)
                self._pop(gone)
                blanks = min(self._blanks, max(0, gone - self._content))
                self._content -= gone - blanks
                self._blanks -= blanks
                if self._content + self._blanks:
                    return False
                self._state = "header"
            case "file" | "extended":
                if len(self._buffer) < self._content + self._blanks:
                    return False
                content = self._pop(self._content)
                self._pop(self._blanks)
                if self._state == "extended":
                    self._long_path = _path_in(content) or self._long_path
                elif self._path is not None:
                    self._take(self._path, content)
                self._state = "header"
            case "end":
                self._buffer.clear()
                return False
        return True

    def _header(self, block: bytes) -> None:
        if not any(block):
            self._state = "end"
            return
        size, kind = _number(block[124:136]), block[156:157]
        if _number(block[148:156]) != sum(block[:148]) + 8 * 32 + sum(block[156:]):
            raise ArchiveRefused("an entry of the archive is damaged")
        self._content, self._blanks = size, -size % _BLOCK
        self._headers -= 1
        if self._headers < 0:
            raise ArchiveRefused("the archive has too many headers")
        if kind in (_EXTENDED, _EXTENDED_FOR_ALL):
            if size > _LONGEST_EXTENDED_HEADER:
                raise ArchiveRefused("an entry of the archive has too long a header")
            # What holds for all is the commit's name, which is known.
            self._state = "extended" if kind == _EXTENDED else "skip"
            return
        self._entries -= 1
        if self._entries < 0:
            raise ArchiveRefused("the archive has too many entries")
        path, self._long_path = self._long_path or _short_path(block), None
        self._path = None if path is None else path.partition("/")[2]
        keep = kind in (_FILE, _FILE_OF_OLD) and bool(self._path) and self._wanted(self._path or "", size)
        self._state = "file" if keep else "skip"

    def _pop(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


def _number(field: bytes) -> int:
    digits = field.strip(b"\x00 ") or b"0"
    try:
        # Python also takes a sign and underscores for a number.
        if digits.isdigit():
            return int(digits, 8)
    except ValueError:
        pass
    raise ArchiveRefused("an entry of the archive is damaged")


def _short_path(block: bytes) -> str | None:
    name, prefix = block[:100].partition(b"\x00")[0], block[345:500].partition(b"\x00")[0]
    return _text(prefix + b"/" + name if prefix else name)


def _path_in(content: bytes) -> str | None:
    """The path in an extended header: lines of ``length key=value``."""
    while content:
        digits, space, _ = content.partition(b" ")
        if not space or not digits.isdigit() or len(digits) > 6 or not len(digits) < int(digits) <= len(content):
            raise ArchiveRefused("an entry of the archive is damaged")
        line, content = content[len(digits) + 1 : int(digits) - 1], content[int(digits) :]
        key, _, value = line.partition(b"=")
        if key == b"path":
            return _text(value)
        if key == b"size" or key.startswith(b"GNU.sparse"):
            raise ArchiveRefused("an entry of the archive is of an unknown kind")
    return None


def _text(raw: bytes) -> str | None:
    """None: no path of ours can have these bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None
