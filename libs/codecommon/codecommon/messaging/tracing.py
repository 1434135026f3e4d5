"""The span in which one event is handled, in the trace of whoever published it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from nats.aio.msg import Msg
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from codecommon.messaging.events import ObjectEvent
from codecommon.process.telemetry import extract

_SCOPE: Final = "codecommon"


@contextmanager
def consume(msg: Msg, event: ObjectEvent) -> Iterator[Span]:
    """A span for handling one event, in the trace of whoever published it."""
    attributes = {
        "messaging.system": "nats",
        "messaging.destination.name": msg.subject,
        "kedge.kind": event.resource,
        "kedge.cluster": event.cluster,
        "kedge.name": event.name,
        "kedge.generation": event.generation,
        "kedge.reason": event.reason,
    }
    # An exception's text may quote what a host answered: the span gets its type, the redacted log has the rest.
    with trace.get_tracer(_SCOPE).start_as_current_span(
        f"process {event.resource}",
        context=extract(msg.headers),
        kind=SpanKind.CONSUMER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
