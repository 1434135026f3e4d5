"""A span and a count for each request that goes out. Neither holds the names of a tenant's objects."""

from __future__ import annotations

import httpx
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from codecommon.githost.http.metrics import HOST_REQUESTS
from codecommon.githost.http.sender import sender_of
from codecommon.githost.protocol import HostBusy


class Traced(httpx.AsyncBaseTransport):
    """A client span and ``code_host_requests_total`` around the transport below."""

    def __init__(self, below: httpx.AsyncBaseTransport) -> None:
        self._below = below
        self._tracer = trace.get_tracer("codecommon.githost")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        address = sender_of(request).address
        template = address.api.url_template(request.url.path)
        attributes = {
            "http.request.method": request.method,
            "url.template": template,
            "server.address": request.url.host,
        }
        # Exceptions are named and not recorded: their text comes from a host or a library, and may hold a URL.
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
            except (httpx.TransportError, HostBusy) as error:
                outcome = type(error).__name__
                span.set_attribute("error.type", outcome)
                span.set_status(Status(StatusCode.ERROR))
                raise
            finally:
                HOST_REQUESTS.labels(request.method, outcome, address.label).inc()

    async def aclose(self) -> None:
        await self._below.aclose()
