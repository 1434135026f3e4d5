"""Where bundles are kept until they are read: in NATS (a JetStream object store), or in a directory that all processes share.

A bundle is stored under the scope of its workspace, so nobody reads that of another one. Its name is that of its contents, so
to store it again changes nothing but its age. What is not removed goes after some hours.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import fcntl
import io
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import orjson
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, ObjectNotFoundError
from nats.js.errors import NotFoundError as JetStreamNotFoundError
from nats.js.object_store import ObjectStore

from codecommon.api.bundle import Bundle, InvalidBundle, is_bundle_name, scope_of
from codecommon.messaging.bundle_metrics import BUNDLE_BYTES, BUNDLE_OPERATIONS, BUNDLE_SECONDS
from codecommon.messaging.bus import BUNDLE_TTL_SECONDS, BUNDLES, Bus, BusUnavailable, or_unavailable

MOST_OF_A_WORKSPACE: Final = 256
MOST_BYTES_OF_A_WORKSPACE: Final = 256 * 1024 * 1024
"""As they are stored. Both bounds may be passed by what is stored at the same moment."""

_PART_OF_CHECKOUTS: Final = 2
"""Of each bound. A checkout is kept until it was read whole, or for ten minutes. That leaves room for commits."""

_PART_OF_FREE: Final = 4
"""Of what is free in NATS, a workspace may have a quarter. So a few that store as much as they may leave room for the others."""

_FEW: Final = 2
"""So many bundles are within the bound of bytes, whatever their size."""

_RESERVED_BYTES: Final = 256 * 1024 * 1024
"""So much of the directory's file system stays free, or a quarter of it, if that is less. ``serve`` has the store of its
nats-server there, too, and that stops for good once nothing is free."""

_MOST_STORED_BYTES: Final = 128 * 1024 * 1024
"""Of one bundle: a character of JSON takes six bytes at most."""

_CHUNK_SECONDS: Final = 5.0
_UNFINISHED: Final = ".unfinished-"
_STORE_FULL: Final = 10047, 10077
"""Error codes of JetStream: no resources left, maximum bytes exceeded."""

_FULL: Final = "the provider keeps as many bundles as it can; try again in a few minutes"


class BundlesFull(Exception):
    """The workspace, or the store, has as many bundles as it may. The message says so for the caller."""


@dataclass(frozen=True, slots=True)
class FoundBundle:
    """A bundle that is stored, before it is read. ``stored_bytes``: what reading it takes. ``version``: of what is stored."""

    name: str
    stored_bytes: int
    version: str


class BundleStore(Protocol):
    """``cluster`` is the ID of the workspace's logical cluster, as kcp has answered it. All raise ``BusUnavailable``."""

    async def put(self, cluster: str, bundle: Bundle, name: str | None = None) -> None:
        """Store it under ``name``; None: its own, by its digest. Raises ``BundlesFull``.

        What has a name of its own is a checkout's. It finds room while bundles take less than half of what a workspace may have.
        """
        ...

    async def require_room_for_checkout(self, cluster: str) -> None:
        """Raises ``BundlesFull`` where even a small one has no room."""
        ...

    async def find(self, cluster: str, name: str) -> FoundBundle | None:
        """None: there is none, or none any more. A name that no bundle can have is not found."""
        ...

    async def read(self, cluster: str, found: FoundBundle) -> Bundle | None:
        """The bundle as it is now. None: it is gone. Raises ``InvalidBundle``."""
        ...

    async def remove(self, cluster: str, found: FoundBundle) -> None:
        """Remove that version. One that was stored since stays."""
        ...

    async def remove_all(self, cluster: str) -> None:
        """Remove everything of a workspace that is gone."""
        ...

    async def sweep(self) -> None:
        """Remove what is too old, where the store does not do so by itself."""
        ...


@asynccontextmanager
async def open_bundle_store(where: Bus | Path) -> AsyncIterator[BundleStore]:
    """The store in a directory, or the one in NATS, where ``bus.declare`` has made the object store."""
    match where:
        case Path() as directory:
            yield MeteredBundles(DirectoryBundles(directory))
        case bus:
            yield MeteredBundles(NatsBundles(bus.js, await bus.object_store(BUNDLES)))


class MeteredBundles:
    """A store whose operations are counted."""

    def __init__(self, store: BundleStore) -> None:
        self._store = store

    async def put(self, cluster: str, bundle: Bundle, name: str | None = None) -> None:
        with _metered("put"):
            await self._store.put(cluster, bundle, name)
        BUNDLE_BYTES.labels("put").inc(bundle.size)

    async def require_room_for_checkout(self, cluster: str) -> None:
        await self._store.require_room_for_checkout(cluster)

    async def find(self, cluster: str, name: str) -> FoundBundle | None:
        with _metered("find") as operation:
            found = await self._store.find(cluster, name)
            if found is None:
                operation.result = "missing"
        return found

    async def read(self, cluster: str, found: FoundBundle) -> Bundle | None:
        with _metered("read") as operation:
            bundle = await self._store.read(cluster, found)
            if bundle is None:
                operation.result = "missing"
                return None
        BUNDLE_BYTES.labels("read").inc(bundle.size)
        return bundle

    async def remove(self, cluster: str, found: FoundBundle) -> None:
        with _metered("remove"):
            await self._store.remove(cluster, found)

    async def remove_all(self, cluster: str) -> None:
        await self._store.remove_all(cluster)

    async def sweep(self) -> None:
        await self._store.sweep()


@dataclass(slots=True)
class _Operation:
    """``result``: the label in metrics of an operation that ends without an error."""

    result: Literal["done", "missing"] = "done"


@contextmanager
def _metered(name: Literal["find", "put", "read", "remove"]) -> Iterator[_Operation]:
    began, operation, result = time.monotonic(), _Operation(), "dropped"
    try:
        yield operation
        result = operation.result
    except BundlesFull:
        result = "full"
        raise
    except InvalidBundle:
        result = "invalid"
        raise
    except BusUnavailable:
        result = "unavailable"
        raise
    finally:
        BUNDLE_OPERATIONS.labels(name, result).inc()
        BUNDLE_SECONDS.labels(name).observe(time.monotonic() - began)


class NatsBundles:
    """Bundles in a JetStream object store. Its age limit removes what is too old."""

    def __init__(self, js: JetStreamContext, store: ObjectStore) -> None:
        self._js = js
        self._store = store
        self._stream = f"OBJ_{BUNDLES}"

    async def put(self, cluster: str, bundle: Bundle, name: str | None = None) -> None:
        scope = scope_of(cluster)
        body = await asyncio.to_thread(_encoded, bundle, scope, name or bundle.name)
        key = f"{scope}/{name or bundle.name}"
        with _answered():
            await self._require_room(scope, key, len(body), _part(name))
            await self._store.put(key, body)

    async def require_room_for_checkout(self, cluster: str) -> None:
        with _answered():
            await self._require_room(scope_of(cluster), "", 0, _PART_OF_CHECKOUTS)

    async def find(self, cluster: str, name: str) -> FoundBundle | None:
        if not is_bundle_name(name):
            return None
        with _answered():
            info = await self._info(f"{scope_of(cluster)}/{name}")
        return FoundBundle(name, info.size or 0, info.nuid) if info is not None else None

    async def read(self, cluster: str, found: FoundBundle) -> Bundle | None:
        key = f"{scope_of(cluster)}/{found.name}"
        with _answered():
            info = await self._info(key)
            while info is not None:
                body = await self._chunks(info)
                if body is not None:
                    return await asyncio.to_thread(Bundle.decode, body)
                # It was stored again meanwhile, or removed.
                before, info = info, await self._info(key)
                if info is not None and info.nuid == before.nuid:
                    raise BusUnavailable("a part of a bundle is missing")
        return None

    async def remove(self, cluster: str, found: FoundBundle) -> None:
        with _answered():
            await self._remove(f"{scope_of(cluster)}/{found.name}", found.version)

    async def remove_all(self, cluster: str) -> None:
        with _answered():
            for name in _names(await self._stream_info(), scope_of(cluster)):
                info = await self._info(name)
                if info is not None:
                    await self._remove(name, info.nuid)

    async def sweep(self) -> None:
        return

    async def _require_room(self, scope: str, name: str, size: int, part: int) -> None:
        stream = await self._stream_info()
        others = [other for other in _names(stream, scope) if other != name]
        if len(others) < _FEW:
            return
        most = stream.config.max_bytes or 0
        free = most - stream.state.bytes if most > 0 else None
        infos = await asyncio.gather(*map(self._info, others[:MOST_OF_A_WORKSPACE]))
        _require_room(len(others), sum(info.size or 0 for info in infos if info is not None), size, part, free)

    async def _stream_info(self) -> api.StreamInfo:
        """With the names of bundles: the server tells of 100,000, of all workspaces."""
        return await self._js.stream_info(self._stream, subjects_filter=f"$O.{BUNDLES}.M.*")

    async def _info(self, name: str) -> api.ObjectInfo | None:
        try:
            return await self._store.get_info(name)
        except ObjectNotFoundError:
            return None

    async def _chunks(self, info: api.ObjectInfo) -> bytes | None:
        """The content. None: a part of it is gone. The library's own ``get`` would wait for that for ever."""
        if (info.size or 0) > _MOST_STORED_BYTES:
            raise InvalidBundle(f"{info.size} bytes are stored, which is no bundle")
        buffer = io.BytesIO()
        subscription = await self._js.subscribe(f"$O.{BUNDLES}.C.{info.nuid}", ordered_consumer=True)
        try:
            for _ in range(info.chunks or 0):
                buffer.write((await subscription.next_msg(_CHUNK_SECONDS)).data)
        except TimeoutError:
            return None
        finally:
            with suppress(NatsError):
                await subscription.unsubscribe()
        return buffer.getvalue()

    async def _remove(self, name: str, version: str) -> None:
        # The library's own ``delete`` leaves a marker, which would count as a bundle.
        subject = _meta_subject(name)
        with suppress(JetStreamNotFoundError):
            stored = await self._js.get_last_msg(self._stream, subject)
            if orjson.loads(stored.data or b"{}").get("nuid") == version:
                assert stored.seq is not None
                await self._js.purge_stream(self._stream, subject=subject, seq=stored.seq + 1)
        await self._js.purge_stream(self._stream, subject=f"$O.{BUNDLES}.C.{version}")


class DirectoryBundles:
    """Bundles in files, ``<scope>/<name>.json`` below ``root``. It also reads what the Go provider left there."""

    def __init__(self, root: Path, now: Callable[[], float] = time.time) -> None:
        self._root = root
        self._now = now

    async def put(self, cluster: str, bundle: Bundle, name: str | None = None) -> None:
        await asyncio.to_thread(self._put, scope_of(cluster), bundle, name or bundle.name, _part(name))

    async def require_room_for_checkout(self, cluster: str) -> None:
        def look() -> None:
            with _on_disk(), self._locked(scope_of(cluster)):
                self._require_room(scope_of(cluster), "", 0, _PART_OF_CHECKOUTS)

        await asyncio.to_thread(look)

    async def find(self, cluster: str, name: str) -> FoundBundle | None:
        return await asyncio.to_thread(self._find, scope_of(cluster), name)

    async def read(self, cluster: str, found: FoundBundle) -> Bundle | None:
        return await asyncio.to_thread(self._read, self._path(scope_of(cluster), found.name))

    async def remove(self, cluster: str, found: FoundBundle) -> None:
        await asyncio.to_thread(self._remove, scope_of(cluster), found)

    async def remove_all(self, cluster: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._root / scope_of(cluster), ignore_errors=True)

    async def sweep(self) -> None:
        await asyncio.to_thread(self._sweep)

    def _put(self, scope: str, bundle: Bundle, name: str, part: int) -> None:
        body = _encoded(bundle, scope, name)
        path = self._path(scope, name)
        with _on_disk(), self._locked(scope):
            self._require_room(scope, path.name, len(body), part)
            _require_reserve(path.parent, len(body))
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_UNFINISHED, delete=False) as file:
                try:
                    file.write(body)
                    file.flush()
                    os.replace(file.name, path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise

    def _require_room(self, scope: str, name: str, size: int, part: int) -> None:
        """``name``: of the file that is replaced, or empty."""
        others = [entry for entry in os.scandir(self._root / scope) if entry.name != name]
        live = [found for entry in others if (found := self._live_size(entry)) is not None]
        _require_room(len(live), sum(live), size, part)

    def _find(self, scope: str, name: str) -> FoundBundle | None:
        if not is_bundle_name(name):
            return None
        with _on_disk():
            try:
                seen = self._path(scope, name).stat()
            except FileNotFoundError:
                return None
        if self._is_old(seen):
            return None
        return FoundBundle(name, seen.st_size, _version(seen))

    def _read(self, path: Path) -> Bundle | None:
        with _on_disk():
            try:
                with path.open("rb") as file:
                    body = file.read(_MOST_STORED_BYTES + 1)
            except FileNotFoundError:
                return None
        if len(body) > _MOST_STORED_BYTES:
            raise InvalidBundle("the file is too long for a bundle")
        return Bundle.decode(body)

    def _remove(self, scope: str, found: FoundBundle) -> None:
        path = self._path(scope, found.name)
        with _on_disk(), suppress(FileNotFoundError), self._locked(scope):
            if _version(path.stat()) == found.version:
                path.unlink()

    def _sweep(self) -> None:
        with _on_disk(), suppress(FileNotFoundError):
            for scope in os.scandir(self._root):
                if not scope.name.startswith("scope-"):
                    continue
                with suppress(FileNotFoundError), self._locked(scope.name):
                    for entry in os.scandir(scope.path):
                        self._live_size(entry)
                with suppress(OSError):
                    # Unless there is something in it.
                    Path(scope.path).rmdir()

    def _live_size(self, entry: os.DirEntry[str]) -> int | None:
        """The size of a file. One that is too old is removed, and None."""
        with suppress(FileNotFoundError):
            seen = entry.stat(follow_symlinks=False)
            if not self._is_old(seen):
                return seen.st_size
            Path(entry.path).unlink()
        return None

    def _is_old(self, seen: os.stat_result) -> bool:
        return self._now() - seen.st_mtime > BUNDLE_TTL_SECONDS

    def _path(self, scope: str, name: str) -> Path:
        return self._root / scope / f"{name}.json"

    @contextmanager
    def _locked(self, scope: str) -> Iterator[None]:
        """Hold off other processes that write in the scope's folder, which is made if it is missing."""
        while True:
            folder = self._root / scope
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # It may have been removed while this waited, and made again.
                if folder.exists() and os.fstat(descriptor).st_ino == folder.stat().st_ino:
                    yield
                    return
            finally:
                os.close(descriptor)


def _encoded(bundle: Bundle, scope: str, name: str) -> bytes:
    # A join would copy it all at once.
    buffer = io.BytesIO()
    buffer.writelines(bundle.encode(scope, name))
    return buffer.getvalue()


def _part(name: str | None) -> int:
    return _PART_OF_CHECKOUTS if name else 1


def _require_room(others: int, their_bytes: int, size: int, part: int, free: int | None = None) -> None:
    """``free``: bytes of the whole store, None where others look after them."""
    wanted = their_bytes + size
    if others >= MOST_OF_A_WORKSPACE // part or wanted > MOST_BYTES_OF_A_WORKSPACE // part:
        raise BundlesFull(
            f"{others} bundles of this workspace ({their_bytes} bytes) have not been read yet; "
            "wait until its commits and checkouts are done"
        )
    if free is not None and wanted > free // _PART_OF_FREE // part:
        raise BundlesFull(_FULL)


def _require_reserve(folder: Path, size: int) -> None:
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize - size < min(disk.f_blocks * disk.f_frsize // 4, _RESERVED_BYTES):
        raise BundlesFull(_FULL)


def _version(seen: os.stat_result) -> str:
    return f"{seen.st_ino}/{seen.st_mtime_ns}"


def _names(stream: api.StreamInfo, scope: str) -> list[str]:
    """The names of a workspace's bundles."""
    subjects = stream.state.subjects or {}
    names = (base64.urlsafe_b64decode(subject.rpartition(".")[2]).decode() for subject in subjects)
    return [name for name in names if name.startswith(f"{scope}/")]


def _meta_subject(name: str) -> str:
    return f"$O.{BUNDLES}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"


@contextmanager
def _answered() -> Iterator[None]:
    with or_unavailable():
        try:
            yield
        except APIError as error:
            if error.err_code in _STORE_FULL:
                raise BundlesFull(_FULL) from None
            raise


@contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BundlesFull(_FULL) from None
        raise BusUnavailable(f"the directory of the bundles: {type(error).__name__}") from None
