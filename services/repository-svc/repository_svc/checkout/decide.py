"""From what the host shows at a ref to a bundle and a status. Pure."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from codecommon.api.bundle import (
    MOST_BYTES,
    MOST_FILE_BYTES,
    MOST_FILES,
    MOST_PATH_BYTES,
    Bundle,
    BundleFile,
    InvalidBundle,
    clean_path,
)
from codecommon.api.stored_size import stored_bytes
from codecommon.githost.contents import Skipped, Snapshot, SnapshotCaps, SnapshotFile

CAPS: Final = SnapshotCaps(files=MOST_FILES, file_bytes=MOST_FILE_BYTES, total_bytes=MOST_BYTES)

_MOST_SKIPPED: Final = 100
_LONGEST_SKIPPED: Final = 300


def bundle_name(uid: str) -> str:
    """The name of the bundle of the checkout with that uid. It is its own, so it can go with it."""
    return f"bundle-{hashlib.sha256(uid.encode()).hexdigest()[:24]}"


def bundle_of(snapshot: Snapshot) -> tuple[Bundle | None, Snapshot]:
    """The files as a bundle, None for none, and the snapshot without those that no bundle can hold."""
    files: list[SnapshotFile] = []
    unfit: list[Skipped] = []
    path_bytes = 0
    for file in snapshot.files:
        if not _fits(file.path):
            unfit.append(Skipped(file.path, "unreadable"))
        elif path_bytes + stored_bytes(file.path) > MOST_PATH_BYTES:
            unfit.append(Skipped(file.path, "too many bytes"))
        else:
            path_bytes += stored_bytes(file.path)
            files.append(file)
    left = Snapshot(
        snapshot.ref,
        snapshot.commit_sha,
        tuple(files),
        (*unfit, *snapshot.skipped),
        snapshot.skipped_count + len(unfit),
    )
    return (Bundle.build(BundleFile(file.path, file.content) for file in files) if files else None), left


def status_of(bundle: Bundle | None, name: str, snapshot: Snapshot) -> dict[str, Any]:
    """Status fields by wire name. ``name``: of the stored bundle. Without files there is none."""
    status: dict[str, Any] = {
        "ref": snapshot.ref,
        "commitSHA": snapshot.commit_sha or None,
        "skipped": _skipped(snapshot),
    }
    if bundle is not None:
        status["bundleRef"] = {"name": name, "digest": bundle.digest}
        status["source"] = {"digest": bundle.digest, "fileCount": len(bundle.files), "size": bundle.size}
    return status


def _fits(path: str) -> bool:
    try:
        return clean_path(path) == path
    except InvalidBundle:
        return False


def _skipped(snapshot: Snapshot) -> list[str] | None:
    """``path: why`` of each, and in the last line how many more there are."""
    lines = [f"{file.path[:_LONGEST_SKIPPED]}: {file.why}" for file in snapshot.skipped]
    if snapshot.skipped_count > _MOST_SKIPPED or snapshot.skipped_count > len(lines):
        lines = lines[: _MOST_SKIPPED - 1]
        lines.append(f"{snapshot.skipped_count - len(lines)} more")
    return lines or None
