"""Traces: one per change, through all processes that had a part in it, and no credential in any of them."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from devstack.devhub import DevHub
from devstack.kcp import Kcp
from devstack.own_instance import own_instance
from devstack.ports import LOOPBACK, free_ports
from devstack.resources import is_ready
from devstack.scenario import Scenario, has, repository
from devstack.settings import Settings
from devstack.simulator import SimulatorProcess
from devstack.tenant import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

API = "/api/v3"
"""Where GitHub Enterprise Server, and so the simulator, has its REST API."""


@dataclass(frozen=True)
class Span:
    """A span as the collector got it, and whose it is."""

    service: str
    wire: WireSpan

    @property
    def attributes(self) -> dict[str, str | int]:
        return {
            item.key: item.value.int_value if item.value.HasField("int_value") else item.value.string_value
            for item in self.wire.attributes
        }


@dataclass
class Collector:
    """An OTLP/HTTP endpoint. ``bodies`` holds every request's protobuf, decompressed."""

    url: str
    bodies: list[bytes] = field(default_factory=list)
    encodings: set[str] = field(default_factory=set)

    @property
    def spans(self) -> list[Span]:
        found: list[Span] = []
        for body in self.bodies:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
                found.extend(Span(named[0], span) for scope in resource.scope_spans for span in scope.spans)
        return found

    def first(self, wanted: Callable[[Span], bool]) -> Span | None:
        return next((span for span in self.spans if wanted(span)), None)

    def parent(self, span: Span) -> Span | None:
        return self.first(lambda other: other.wire.span_id == span.wire.parent_span_id)


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    port = free_ports(1)[0]
    collector = Collector(f"http://{LOOPBACK}:{port}")

    async def take(request: web.Request) -> web.Response:
        # aiohttp decompresses what says that it is gzip.
        collector.bodies.append(await request.read())
        collector.encodings.add(request.headers.get("Content-Encoding", ""))
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        yield collector
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture(scope="module")
async def collector() -> AsyncIterator[Collector]:
    async with collecting() as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def traced_tenant(
    kcp: Kcp,
    devhub: DevHub,
    github_sim: SimulatorProcess,
    dev_settings: Settings,
    collector: Collector,
    run_dir: Path,
) -> AsyncIterator[Tenant]:
    """A tenant on which only the instance acts that sends its spans to us."""
    settings = {
        "CODE_ALLOWED_GIT_HOSTS": github_sim.url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    async with own_instance(kcp, devhub, run_dir / "traces", dev_settings.environment, settings) as instance:
        yield instance.tenant


async def test_a_creation_is_one_trace_from_the_watcher_over_the_service_to_the_git_host(
    traced_tenant: Tenant, scenario: Scenario, collector: Collector
) -> None:
    account = await scenario.account()
    await scenario.connect(traced_tenant, account, "traced", timeout=60)
    await traced_tenant.apply(repository("site", "traced"))
    await traced_tenant.wait_for("repositories", "site", is_ready)

    def created(span: Span) -> bool:
        return span.wire.name == f"POST {API}/user/repos"

    async def told() -> bool:
        call = collector.first(created)
        handling = call and collector.parent(call)
        return bool(handling and collector.parent(handling))

    await scenario.wait_until(told, True, timeout=30, what="the call, what made it, and what caused that")
    call = collector.first(created)
    assert call is not None
    assert (call.service, call.wire.kind) == ("repository-svc", WireSpan.SPAN_KIND_CLIENT)
    assert call.attributes["http.request.method"] == "POST"
    assert call.attributes["url.template"] == f"{API}/user/repos"
    assert call.attributes["http.response.status_code"] == 201

    handling = collector.parent(call)
    assert handling is not None
    assert (handling.service, handling.wire.kind) == ("repository-svc", WireSpan.SPAN_KIND_CONSUMER)
    publishing = collector.parent(handling)
    assert publishing is not None
    assert (publishing.service, publishing.wire.kind) == ("watcher", WireSpan.SPAN_KIND_PRODUCER)
    assert publishing.wire.parent_span_id == b""
    for span in (handling, publishing):
        assert span.attributes["kedge.name"] == "site"
        assert span.attributes["kedge.cluster"] == traced_tenant.cluster

    trace = [span for span in collector.spans if span.wire.trace_id == call.wire.trace_id]
    assert {call.wire.span_id, handling.wire.span_id, publishing.wire.span_id} <= {s.wire.span_id for s in trace}
    looking = [span for span in trace if span.attributes.get("url.template") == API + "/repos/{owner}/{repo}"]
    assert looking
    assert looking[0].attributes["http.response.status_code"] == 404
    assert {span.service for span in trace} == {"watcher", "repository-svc"}
    assert collector.encodings == {"gzip"}


async def test_no_span_holds_a_credential_neither_of_a_call_that_works_nor_of_one_that_is_refused(
    traced_tenant: Tenant, scenario: Scenario, collector: Collector
) -> None:
    account = await scenario.account()
    marked = account.token.value
    await scenario.connect(traced_tenant, account, "marked", timeout=60)
    await traced_tenant.apply(repository("marked", "marked"))
    await traced_tenant.wait_for("repositories", "marked", is_ready)
    await scenario.control.revoke_token(account.token.id)
    await traced_tenant.request_reconcile("connections", "marked")
    await traced_tenant.wait_for("connections", "marked", has("Ready", "False", "CredentialRejected"))

    async def refused() -> bool:
        return any(
            span.service == "connection-svc"
            and span.attributes.get("http.response.status_code") == 401
            and span.wire.status.code == Status.STATUS_CODE_ERROR
            for span in collector.spans
        )

    await scenario.wait_until(refused, True, timeout=30, what="the span of a refused call")
    # Names, attributes, events, statuses and resources alike are in the body as they are.
    everything = b"".join(collector.bodies)
    for form in (marked.encode(), base64.b64encode(marked.encode()).rstrip(b"=")):
        assert form not in everything
