"""A span and a count for each request that goes out, without anything a tenant must not find in a trace."""

from __future__ import annotations

from typing import Final

import httpx
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from codecommon.githost.github.endpoint import HostEndpoint
from codecommon.githost.http.metrics import HOST_REQUESTS
from codecommon.githost.http.sender import sender_of

# The segments of GitHub's API that we use; what follows one of the first group is a name or an id.
_PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "repos": ("{owner}", "{repo}"),
    "repositories": ("{id}",),
    "orgs": ("{org}",),
    "users": ("{username}",),
    "branches": ("{branch}",),
    "keys": ("{key_id}",),
    "collaborators": ("{username}",),
    "invitations": ("{invitation_id}",),
    "installations": ("{installation_id}",),
    "packages": ("{package_type}", "{package_name}"),
    "versions": ("{package_version_id}",),
}
_WORDS: Final = frozenset(
    {*_PARAMETERS, "user", "app", "installation", "access_tokens", "api", "v3", "permission", "rate_limit", "meta"}
)


class Observed(httpx.AsyncBaseTransport):
    """A client span and ``code_host_requests_total`` around the transport below."""

    def __init__(self, below: httpx.AsyncBaseTransport) -> None:
        self._below = below
        self._tracer = trace.get_tracer("codecommon.githost")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        template = url_template(request.url.path)
        attributes = {
            "http.request.method": request.method,
            "url.template": template,
            "server.address": request.url.host,
        }
        # Exceptions are named, not recorded: their text is a host's or a library's, and may hold a URL.
        with self._tracer.start_as_current_span(
            f"{request.method} {template}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            outcome = "cancelled"
            try:
                response = await self._below.handle_async_request(request)
                outcome = str(response.status_code)
                span.set_attribute("http.response.status_code", response.status_code)
                if response.is_error:
                    span.set_attribute("error.type", outcome)
                    span.set_status(Status(StatusCode.ERROR))
                return response
            except httpx.TransportError as error:
                outcome = type(error).__name__
                span.set_attribute("error.type", outcome)
                span.set_status(Status(StatusCode.ERROR))
                raise
            finally:
                HOST_REQUESTS.labels(request.method, outcome, host_label(sender_of(request).endpoint)).inc()

    async def aclose(self) -> None:
        await self._below.aclose()


def host_label(endpoint: HostEndpoint) -> str:
    """The host as a metric's label: tenants can name any subdomain of ghe.com, so those are one."""
    return "*.ghe.com" if endpoint.host.endswith(".ghe.com") else endpoint.host


def url_template(path: str) -> str:
    """``/repos/acme/web/keys/7`` → ``/repos/{owner}/{repo}/keys/{key_id}``: few values, and no names of tenants."""
    parts: list[str] = []
    pending: list[str] = []
    for segment in path.strip("/").split("/"):
        if pending:
            parts.append(pending.pop(0))
        elif segment in _WORDS:
            parts.append(segment)
            pending = list(_PARAMETERS.get(segment, ()))
        else:
            parts.append("{other}")
    return "/" + "/".join(parts)
