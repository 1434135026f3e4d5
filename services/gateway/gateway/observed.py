"""A span, a count, a time and a line in the log for each request. None of them holds a query string or a header."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codecommon.process import telemetry
from gateway.metrics import REQUESTS, SECONDS

_log = logging.getLogger(__name__)

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LONGEST_PATH: Final = 200
_HUNG_UP: Final = 499


class Observed:
    """The outermost layer. An exception from below becomes a 500 without a trace, which goes to the log."""

    def __init__(self, app: ASGIApp, paths: Collection[str], quiet: Collection[str]) -> None:
        """``paths`` are told apart in metrics, all others count as ``*``. ``quiet`` are logged at debug level only."""
        self._app = app
        self._paths = frozenset(paths)
        self._quiet = frozenset(quiet)
        self._tracer = trace.get_tracer("gateway")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        route = path if path in self._paths else "*"
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        started = time.monotonic()
        status = _HUNG_UP
        begun = False

        async def observe(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
            await send(message)

        with self._tracer.start_as_current_span(
            f"{method} {route}",
            context=telemetry.extract(Headers(scope=scope)),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                await self._app(scope, receive, observe)
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                _log.exception("a request to %s failed", route)
                if begun:
                    raise
                await JSONResponse({"detail": "Internal error."}, 500)(scope, receive, observe)
            finally:
                seconds = time.monotonic() - started
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))
                REQUESTS.labels(method, route, str(status)).inc()
                SECONDS.labels(route).observe(seconds)
                level = logging.DEBUG if path in self._quiet else logging.INFO
                _log.log(level, "%s %s %d %.1f ms", method, path[:_LONGEST_PATH], status, seconds * 1000)
