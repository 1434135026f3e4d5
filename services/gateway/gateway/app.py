"""Composition root of the gateway. Clients are constructed only here."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import uvicorn
from fastapi import FastAPI
from starlette.routing import BaseRoute

from codecommon.kcp.identity import ProviderIdentity
from codecommon.process.service import CannotRun, Service, cannot_listen
from gateway.bundles import Bundles, open_store
from gateway.caller_limits import CallerLimits
from gateway.heartbeat import HubHeartbeat
from gateway.http_protocol import bounded_http
from gateway.mcp_server.endpoint import McpEndpoint
from gateway.mcp_server.server import ToolServer
from gateway.mcp_tools.table import tools
from gateway.nats_connection import NatsConnection
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
    callers = CallerLimits(settings.caller_rate)
    nats = NatsConnection(settings.nats, service.name)
    bundles = Bundles(partial(open_store, nats, settings.commit_bundle_dir))
    oauth = ConnectWithGitHub(settings.oauth, nats)
    async with (
        ProviderIdentity(settings.kubeconfig) as provider,
        open_mcp(settings, provider, callers, bundles) as mcp,
        oauth.open(),
    ):
        app = _app(service, callers, [*mcp.routes(), *oauth.routes()])
        await _serve(service, app, nats, _purposes_of_nats(settings, oauth))


def open_mcp(
    settings: GatewaySettings, provider: ProviderIdentity, callers: CallerLimits, bundles: Bundles
) -> McpEndpoint:
    """MCP over all tools. Of the provider it is given the address of kcp alone. Raises ``CannotRun``."""
    if settings.dev_allow_tenant_query:
        _log.warning(
            "KEDGE_DEV_ALLOW_TENANT_QUERY is true: THE QUERY OF A URL MAY NAME TENANT AND TOKEN, and URLs end up in logs. "
            "Never set it outside of development"
        )
    table = tools(settings.credentials_namespace, confirm_deletes=settings.mcp_confirm_deletes, bundles=bundles)
    server = ToolServer(table, settings, provider.server, callers)
    return McpEndpoint(server, settings.most_mcp_body_bytes, settings.most_large_bytes)


def _app(service: Service[GatewaySettings], callers: CallerLimits, routes: Sequence[BaseRoute]) -> FastAPI:
    """The routes, and what they share. Raises ``CannotRun``."""
    settings = service.settings
    try:
        return build_app(
            service.readiness, settings=settings, liveness=service.liveness, callers=callers, routes=routes
        )
    except (OSError, ValueError) as error:
        raise CannotRun(f"the portal cannot be read (CODE_PORTAL_DIR): {error}") from None


def _purposes_of_nats(settings: GatewaySettings, oauth: ConnectWithGitHub) -> list[str]:
    """What does not work without NATS, as people know it."""
    bundles = ["commits", "checkouts"] if settings.commit_bundle_dir is None else []
    return [*bundles, *(["Connect with GitHub"] if oauth.enabled else [])]


async def _serve(service: Service[GatewaySettings], app: FastAPI, nats: NatsConnection, purposes: list[str]) -> None:
    """``purposes``: what needs the connection to NATS. Without any, no connection is made."""
    settings = service.settings
    listener = _listen(settings.host, settings.port)
    server = _Server(
        uvicorn.Config(
            app,
            http=bounded_http(settings.most_head_bytes, settings.request_timeout.total_seconds()),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )
    serving = service.spawn(server.serve(sockets=[listener]), "http")
    _log.info("listening on port %d", listener.getsockname()[1])
    if purposes:
        service.spawn(nats.run(", ".join(purposes)), "nats")
    # Before the first heartbeat, which tells the hub whether we are ready.
    service.ready()
    if settings.hub_url is None:
        _log.info("KEDGE_HUB_URL is not set: no heartbeats")
    else:
        heartbeat = HubHeartbeat(
            settings.hub_url,
            settings.provider_name,
            readiness=service.readiness,
            token=settings.hub_token,
            token_file=settings.hub_token_file,
            verify_tls=not settings.hub_insecure,
        )
        service.spawn(heartbeat.run(), "heartbeat")
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
