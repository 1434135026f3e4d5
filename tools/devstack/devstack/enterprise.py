"""The GitHub simulator as an Enterprise Server behind TLS, with a certificate that only it vouches for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from devstack.devhub.certificate import server_context
from devstack.githubsim import GithubSim


@dataclass(frozen=True)
class EnterpriseSim:
    """`url` for Connections, `authority` (PEM) for their caBundle. `downloads_host`: where it serves archives and logs."""

    url: str
    authority: str
    downloads_host: str

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


@asynccontextmanager
async def enterprise_sim(folder: Path) -> AsyncIterator[EnterpriseSim]:
    """Serve in this process until the block is left; the key is kept in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    context = server_context(folder)
    async with GithubSim.serve(tls=context) as sim:
        _, separator, certificate = (folder / "devhub.pem").read_text().partition("-----BEGIN CERTIFICATE-----")
        yield EnterpriseSim(sim.url, separator + certificate, urlsplit(sim.downloads_url).netloc)
