"""The folder of one ``code-provider serve``, and the lock that keeps a second serve out of it."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_LOCK_FILE: Final = "serve.lock"


class DataFolderInUse(Exception):
    """Another process holds the lock. The text is one line for the operator."""


class DataFolderUnusable(Exception):
    """The folder cannot be created or written, or others can write to it. The text is one line for the operator."""


class DataFolder:
    """Use as a context manager, which creates the folder and holds the lock.

    The lock belongs to the open file. A child that keeps ``lock_fd`` open keeps the folder locked even if this process is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock_fd = -1

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock_fd = os.open(self.path / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataFolderUnusable(
                f"cannot write to {self.path}: {error.strerror}; set CODE_DATA_DIR to a folder that can be written"
            ) from None
        try:
            fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self.lock_fd, 32).decode(errors="replace").strip()
            os.close(self.lock_fd)
            raise DataFolderInUse(
                f"{self.path} is in use by another code-provider serve (process {holder or 'unknown'}); stop it, or set"
                " CODE_DATA_DIR to another folder"
            ) from None
        os.ftruncate(self.lock_fd, 0)
        os.pwrite(self.lock_fd, f"{os.getpid()}\n".encode(), 0)
        return self

    def private(self, name: str) -> Path:
        """The folder ``name`` in this one, which is made if need be.

        Raises ``DataFolderUnusable`` where it is another user's, or open to all. The folder around it may be a volume, which
        belongs to root and lets a group write. So only this one is checked.
        """
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.stat(follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise DataFolderUnusable(
                f"{path} is not a folder of this user; remove it, or set CODE_DATA_DIR to another folder"
            )
        if found.st_mode & stat.S_IRWXO:
            raise DataFolderUnusable(f"{path} is open to every user of the machine; close it with: chmod o-rwx {path}")
        return path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.lock_fd)
