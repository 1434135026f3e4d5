"""Tracing: W3C trace context on NATS messages, and an OTLP exporter if the operator names an endpoint.

Without an endpoint only the OpenTelemetry API is loaded, and its spans do nothing. ``setup`` starts a thread, so it is called
after a fork, in the process that traces.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, MutableMapping
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from codecommon.process.settings import TelemetrySettings

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_SCOPE: Final = "codecommon"
# The SDK's exporter would retry an absent collector for longer than a process may take to stop.
_LAST_EXPORT_SECONDS: Final = 1.0


def setup(service: str, settings: TelemetrySettings) -> Callable[[], None]:
    """Export this process's spans if an endpoint is set. Returns a function to call before the process ends."""
    if not settings.enabled:
        return lambda: None
    # Imported only if there is a collector: the import takes 0.1 s and several MB.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create().merge(Resource({"service.name": service})).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)

    def stop() -> None:
        thread = threading.Thread(target=provider.shutdown, name="last-export", daemon=True)
        thread.start()
        thread.join(_LAST_EXPORT_SECONDS)

    return stop


def inject(headers: MutableMapping[str, str]) -> None:
    """Add ``traceparent`` and ``tracestate`` of the current span. Outside of a span it adds nothing."""
    _PROPAGATOR.inject(headers)


def extract(headers: Mapping[str, str] | None) -> Context:
    """The context that a message carries, or an empty one if it has no valid headers."""
    return _PROPAGATOR.extract(dict(headers or {}), context=Context())


def trace_id() -> str | None:
    """The current trace's ID in hex; None outside of a span."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else None
