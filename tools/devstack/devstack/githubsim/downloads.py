"""The other host that archives and logs are served from, which the API only redirects to.

An address is good for whoever has it. As on the real one, a request that brings a credential along is refused.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from aiohttp import web

from devstack.githubsim import gitstore

_STEP = 64 * 1024


@dataclass(slots=True)
class Downloads:
    """What is on offer, by the last part of its path: bytes, or a command that writes them. ``base``: URL of the host.

    ``served`` counts the requests that were answered, ``refused`` those with a credential.
    """

    base: str = ""
    offers: dict[str, bytes | Sequence[str]] = field(default_factory=dict)
    served: int = 0
    refused: int = 0

    def offer(self, what: bytes | Sequence[str], name: str) -> str:
        """The address of `what`."""
        key = f"{secrets.token_hex(8)}-{name}"
        self.offers[key] = what
        return f"{self.base}/{key}?signature={secrets.token_hex(8)}"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if "Authorization" in request.headers:
            self.refused += 1
            return web.Response(status=403, text="Server failed to authenticate the request.")
        offered = self.offers.get(request.match_info["key"])
        if offered is None:
            return web.Response(status=404, text="BlobNotFound")
        self.served += 1
        if isinstance(offered, bytes):
            return web.Response(body=offered, content_type="text/plain")
        return await _written(request, offered)

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{key}", self.serve)
        return app


async def _written(request: web.Request, command: Sequence[str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/x-gzip"})
    await response.prepare(request)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=gitstore.environment())
    assert process.stdout is not None
    try:
        while chunk := await process.stdout.read(_STEP):
            await response.write(chunk)
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    await response.write_eof()
    return response
