import asyncio
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from codecommon.messaging import tracing
from codecommon.messaging.events import ObjectEvent
from codecommon.process import telemetry

EVENT = ObjectEvent("repositories", "c1", "r", "u1", 3, "7", False, "changed", "https://kcp.example/vw")


@dataclass
class Message:
    headers: dict[str, str] | None
    subject: str = "code.events.repositories.c1.r"
    data: bytes = field(default=b"")


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """The process-wide provider can be set once only."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter):
    exporter.clear()
    return exporter.get_finished_spans


def test_handling_an_event_continues_the_trace_of_its_publisher(spans: Any) -> None:
    headers: dict[str, str] = {}
    with trace.get_tracer("t").start_as_current_span("publish") as published:
        telemetry.inject(headers)

    with tracing.consume(Message(headers), EVENT):  # pyright: ignore[reportArgumentType]
        inside = telemetry.trace_id()

    consumed = spans()[-1]
    assert consumed.parent.span_id == published.get_span_context().span_id
    assert inside == trace.format_trace_id(published.get_span_context().trace_id)


@pytest.mark.parametrize("headers", [None, {}, {"traceparent": "nonsense"}])
def test_a_message_without_a_valid_context_starts_a_trace(spans: Any, headers: dict[str, str] | None) -> None:
    with tracing.consume(Message(headers), EVENT):  # pyright: ignore[reportArgumentType]
        pass

    assert spans()[-1].parent is None


def test_a_span_names_the_type_of_an_exception_and_never_its_text(spans: Any) -> None:
    with pytest.raises(ValueError, match="hunter2"), tracing.consume(Message(None), EVENT):  # pyright: ignore[reportArgumentType]
        raise ValueError("hunter2")

    assert "ValueError" in spans()[-1].to_json()
    assert "hunter2" not in spans()[-1].to_json()


@pytest.mark.slow
def test_without_an_endpoint_no_sdk_is_loaded() -> None:
    script = (
        "import sys; from codecommon.process import telemetry; from codecommon.process.settings import TelemetrySettings\n"
        "telemetry.setup('x', TelemetrySettings())()\n"
        "sys.exit(any(name.startswith('opentelemetry.sdk.trace') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60, check=False).returncode == 0


EXPORTING = """
import sys, time
from codecommon.process import telemetry
from codecommon.process.settings import ServiceSettings
from opentelemetry import trace
stop = telemetry.setup("watcher", ServiceSettings.load().telemetry)
with trace.get_tracer("t").start_as_current_span("work"):
    pass
before = time.monotonic()
stop()
print(time.monotonic() - before)
"""


async def export_to(port: int) -> float:
    """Export a span from a process of its own; returns how many seconds its end took."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", EXPORTING),
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return float(out)


@pytest.mark.slow
async def test_spans_reach_the_collector_with_the_name_of_the_service() -> None:
    received: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def collect(request: web.Request) -> web.Response:
        await received.put((request.path, await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_post("/{path:.*}", collect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await export_to(runner.addresses[0][1])
    await runner.cleanup()

    path, body = received.get_nowait()
    assert path == "/v1/traces"
    assert b"service.name" in body
    assert b"watcher" in body


@pytest.mark.slow
async def test_a_collector_that_does_not_answer_delays_the_end_by_a_second_at_most() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert await export_to(silent.getsockname()[1]) < 2
