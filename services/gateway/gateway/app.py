"""Composition root of the gateway. Clients are constructed only here."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import uvicorn

from codecommon.process.service import Service, cannot_listen
from gateway.heartbeat import HubHeartbeat
from gateway.http_protocol import BoundedHttp
from gateway.oauth.routes import ConnectWithGitHub
from gateway.routes import build_app
from gateway.settings import GatewaySettings

_log = logging.getLogger(__name__)

_GRACE_SECONDS: Final = 5


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, because the process has its own."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def main(service: Service[GatewaySettings]) -> None:
    """Serve HTTP and send heartbeats until the service is told to stop. Then finish the requests in flight."""
    settings = service.settings
    listener = _listen(settings.host, settings.port)
    oauth = ConnectWithGitHub(settings.oauth, settings.nats, service.name)
    server = _Server(
        uvicorn.Config(
            build_app(service.readiness, oauth.routes()),
            http=BoundedHttp,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    serving = service.spawn(server.serve(sockets=[listener]), "http")
    _log.info("listening on port %d", listener.getsockname()[1])
    if oauth.enabled:
        service.spawn(oauth.run(), "Connect with GitHub")
    if settings.hub_url is None:
        _log.info("KEDGE_HUB_URL is not set: no heartbeats")
    else:
        heartbeat = HubHeartbeat(
            settings.hub_url,
            settings.provider_name,
            token=settings.hub_token,
            verify_tls=not settings.hub_insecure,
        )
        service.spawn(heartbeat.run(), "heartbeat")
    service.ready()
    await service.stopping.wait()
    server.should_exit = True
    await asyncio.wait({serving})


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. An empty ``host`` means all interfaces, IPv4 and IPv6. Raises ``CannotRun``."""
    try:
        if host:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            return socket.create_server((host, port), family=family)
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise cannot_listen("PORT", host, port, error) from None
