"""The portal's bundle, and what is shown while there is none.

All files are read once, at start. So a path is looked up in a table and never in the file system. Nobody's identity matters here:
the hub's UI proxy passes identity headers through as the browser sent them.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

_log = logging.getLogger(__name__)

_PACKAGE: Final = Path(__file__).parent
_DEFAULTS: Final = _PACKAGE / "default_assets"
BUNDLED: Final = _PACKAGE / "portal"

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
_MOST_BYTES: Final = 64 << 20
"""Of all files. A folder with more is not a bundle but a mistake, and would fill the memory."""
_INDEX: Final = "/index.html"
_SCRIPT: Final = "/main.js"


class Assets:
    """An ASGI application. Any path that is no file shows the index, so that the portal's own paths survive a reload."""

    def __init__(self, folder: Path | None) -> None:
        """``folder`` None: the bundle in the package, if there is one. Raises ``ValueError`` and ``OSError``."""
        chosen = folder or BUNDLED
        bundle = dict(_files(chosen)) if chosen.is_dir() else {}
        self._files = {path: _File(path, content) for path, content in (dict(_files(_DEFAULTS)) | bundle).items()}
        if _SCRIPT not in bundle:
            _log.info("there is no portal: %s has no main.js", chosen)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._response(scope)(scope, receive, send)

    def _response(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return JSONResponse({"detail": "Method not allowed."}, 405, headers={"Allow": "GET, HEAD"})
        path = scope["path"]
        if path == _SCRIPT and path not in self._files:
            # The index in its place would be run as a script by the hub's page.
            return JSONResponse({"detail": "There is no portal."}, 404, headers={"Cache-Control": "no-cache"})
        file = self._files.get(path) or self._files[_INDEX]
        known = Headers(scope=scope).get("if-none-match", "")
        if file.etag in known or known.strip() == "*":
            return Response(status_code=304, headers=file.headers)
        return Response(file.content, headers=file.headers, media_type=file.media_type)


class _File:
    def __init__(self, path: str, content: bytes) -> None:
        self.content = content
        self.media_type = _TYPES.get(os.path.splitext(path)[1].lower(), "application/octet-stream")
        self.etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        self.headers = {"ETag": self.etag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The files below ``folder`` by the path of their URL, without hidden ones and without links that lead elsewhere."""
    root = folder.resolve()
    size = 0
    for parent, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(parent, name) for name in names if not name.startswith(".")):
            if not file.resolve().is_relative_to(root) or not file.is_file():
                continue
            size += file.stat().st_size
            if size > _MOST_BYTES:
                raise ValueError(f"{folder} has more than {_MOST_BYTES} bytes")
            yield f"/{file.relative_to(root).as_posix()}", file.read_bytes()
