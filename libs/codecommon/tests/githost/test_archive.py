"""Reading an archive: what git writes is understood, and what nobody should write is refused within bounds."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import tarfile
from pathlib import Path

import pytest

from codecommon.githost.archive import ArchiveReader, ArchiveRefused

MIB = 1024 * 1024


def read(
    packed: bytes, *, most_bytes: int = 16 * MIB, most_entries: int = 1000, step: int = 64 * 1024
) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    reader = ArchiveReader(lambda path, size: True, found.__setitem__, most_bytes=most_bytes, most_entries=most_entries)
    for start in range(0, len(packed), step):
        reader.feed(packed[start : start + step])
    return found


def archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=form) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def member(path: str, kind: bytes = tarfile.REGTYPE, **headers: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type = kind
    info.pax_headers = headers
    return info


def test_what_git_writes_is_read_whatever_the_pieces(tmp_path: Path) -> None:
    rng = random.Random(1)
    files = {
        "a.txt": b"text\n",
        "empty": b"",
        "ü/ö.txt": "é".encode(),
        f"{'deep/' * 60}file": b"a path that needs an extended header",
        "long": rng.randbytes(300_000),
        "block": b"x" * 512,
    }
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    (tmp_path / "link").symlink_to("a.txt")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "t", f"GIT_{role}_EMAIL": "t@example.com"}
    for command in (("init", "-q"), ("add", "."), ("commit", "-qm", "x")):
        subprocess.run(["git", *command], cwd=tmp_path, env=environment, check=True)
    command = ["git", "archive", "--format=tar.gz", "--prefix=owner-name-1234567/", "HEAD"]
    packed = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True).stdout
    for step in (7, 4096, len(packed)):
        assert read(packed, step=step) == files


def test_only_what_is_wanted_is_kept() -> None:
    packed = archive((member("top/a"), b"1"), (member("top/b"), b"2" * 2000), (member("top/c"), b"3"))
    found: dict[str, bytes] = {}
    reader = ArchiveReader(
        lambda path, size: size == 1 and path != "a", found.__setitem__, most_bytes=MIB, most_entries=10
    )
    reader.feed(packed)
    assert found == {"c": b"3"}
    assert reader.is_at_end


def header(kind: bytes, size: bytes) -> bytes:
    """A header with a right checksum."""
    block = bytearray(b"top/a".ljust(124, b"\x00") + size.ljust(12, b"\x00") + b"\x00" * 12 + b" " * 8 + kind)
    block += b"\x00" * (512 - len(block))
    block[148:156] = b"%06o\x00 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "packed",
    [
        b"no archive at all",
        gzip.compress(b"x" * 1024),
        archive((member("top/a"), b"x"))[:40] + b"\x00" * 40,
        archive((member("top/a", comment="x" * 20_000), b"x")),
        archive((member("top/a", **{"GNU.sparse.major": "1"}), b"x")),
        archive((member("top/a", size="9" * 30), b"x")),
        gzip.compress(header(b"0", b"-0000002000")),
        gzip.compress(header(b"0", b"1_0")),
    ],
    ids=["no gzip", "no tar", "damaged", "long header", "sparse", "size elsewhere", "negative size", "no number"],
)
def test_what_is_no_archive_of_git_is_refused(packed: bytes) -> None:
    with pytest.raises(ArchiveRefused):
        read(packed)


def test_what_unpacks_to_too_much_is_refused_before_it_is_unpacked() -> None:
    bomb = archive((member("top/zeros"), b"\x00" * (32 * MIB)))
    assert len(bomb) < MIB
    with pytest.raises(ArchiveRefused, match="too long"):
        read(bomb, most_bytes=8 * MIB)
    many = archive(*((member(f"top/{number}"), b"") for number in range(50)))
    with pytest.raises(ArchiveRefused, match="too many"):
        read(many, most_entries=49)
    nothing_else = gzip.compress(header(b"x", b"0") * 100)
    with pytest.raises(ArchiveRefused, match="too many"):
        read(nothing_else, most_entries=49)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_devices_links_and_paths_that_lead_elsewhere_are_only_names(form: int) -> None:
    packed = archive(
        (member("top/../../etc/passwd"), b"x"),
        (member("/abs/file"), b"y"),
        (member("top/fifo", tarfile.FIFOTYPE), b""),
        (member("top/link", tarfile.SYMTYPE), b""),
        (member("alone"), b"z"),
        form=form,
    )
    # Nothing is written anywhere. The caller looks for the paths of its tree, which these are not.
    assert read(packed) == {"../../etc/passwd": b"x", "abs/file": b"y"}
