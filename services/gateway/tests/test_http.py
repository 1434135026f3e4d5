"""The HTTP surface over a real socket: probes, the portal, the bounds, and what is recorded of a request."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import limits
import pytest
import uvicorn
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from codecommon.process.health import Readiness
from gateway import assets
from gateway.http_protocol import BoundedHttp
from gateway.http_settings import HttpSettings
from gateway.routes import build_app

BOUND_SECONDS = 20
Handler = Callable[[Request], Awaitable[Response]]


async def echo_size(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


class Gateway:
    def __init__(self, address: tuple[str, int], session: aiohttp.ClientSession) -> None:
        self.address = address
        self._session = session

    async def __call__(
        self, path: str, method: str = "GET", data: object = None, **headers: str
    ) -> tuple[int, aiohttp.typedefs.LooseHeaders, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(method, path, data=data, headers=named) as response:
            return response.status, response.headers, await response.read()

    async def raw(self, *pieces: bytes) -> bytes:
        """Send ``pieces`` and return everything until the server closes the connection."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            async with asyncio.timeout(BOUND_SECONDS):
                writer.write(b"".join(pieces))
                return await reader.read()
        finally:
            writer.close()


Serve = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def serve(
        settings: HttpSettings | None = None, *, readiness: Readiness | None = None, **routes: Handler
    ) -> AsyncIterator[Gateway]:
        """The gateway with an endpoint at ``/<name>`` for each of ``routes``."""
        app = build_app(
            readiness or Readiness(),
            settings=settings or HttpSettings(portal_folder=tmp_path),
            routes=[Route(f"/{name}", handler, methods=["GET", "POST"]) for name, handler in routes.items()],
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app, http=BoundedHttp, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False
            )
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server._serve([listener]))
            host, port = listener.getsockname()
            timeout = aiohttp.ClientTimeout(total=BOUND_SECONDS)
            try:
                async with aiohttp.ClientSession(f"http://{host}:{port}", timeout=timeout) as session:
                    yield Gateway((host, port), session)
            finally:
                server.should_exit = True
                await serving

    return serve


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name in ("main.js", "icon.svg", "index.html", "extra.bin"):
        (folder / name).write_text(f"the bundle's {name}")
    (tmp_path / "secret.txt").write_text("a secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / ".env").write_text("a secret")
    return folder


# Probes


async def test_probes_answer_get_and_head_and_healthz_any_method(serve: Serve) -> None:
    async with serve() as get:
        assert (await get("/healthz"))[2] == b'{"status":"ok"}'
        assert (await get("/livez"))[0] == 200
        assert (await get("/readyz"))[0] == 503
        assert [(await get(path, "HEAD"))[0] for path in ("/healthz", "/livez", "/readyz")] == [200, 200, 503]
        assert [(await get("/healthz", method))[0] for method in ("POST", "DELETE", "PURGE")] == [200, 200, 200]


async def test_metrics_are_not_shown_to_strangers(serve: Serve) -> None:
    async with serve() as get:
        assert b"code_http_requests" not in (await get("/metrics"))[2]


# The portal


@pytest.mark.parametrize(
    ("path", "file", "content_type"),
    [
        ("/main.js", "main.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "icon.svg", "image/svg+xml"),
        ("/index.html", "index.html", "text/html; charset=utf-8"),
        ("/extra.bin", "extra.bin", "application/octet-stream"),
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/repositories/my.repo", "index.html", "text/html; charset=utf-8"),
    ],
)
async def test_a_file_of_the_bundle_has_its_type_and_any_other_path_shows_the_index(
    serve: Serve, bundle: Path, path: str, file: str, content_type: str
) -> None:
    async with serve(HttpSettings(portal_folder=bundle)) as get:
        status, headers, body = await get(path)
        head = await get(path, "HEAD")

    assert (status, body) == (200, f"the bundle's {file}".encode())
    assert (headers["Content-Type"], headers["Cache-Control"]) == (content_type, "no-cache")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert (head[0], head[1]["Content-Length"], head[2]) == (200, str(len(body)), b"")


@pytest.mark.parametrize("form", ["{}", 'W/{}, "other"', '"other", {}', "*"])
async def test_what_the_browser_has_is_not_sent_again(serve: Serve, bundle: Path, form: str) -> None:
    async with serve(HttpSettings(portal_folder=bundle)) as get:
        etag = (await get("/main.js"))[1]["ETag"]
        status, headers, body = await get("/main.js", If_None_Match=form.format(etag))
        changed = await get("/icon.svg", If_None_Match=etag)

    assert (status, body, headers["ETag"], headers["Cache-Control"]) == (304, b"", etag, "no-cache")
    assert changed[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_the_portal_is_read_only(serve: Serve, bundle: Path, method: str) -> None:
    async with serve(HttpSettings(portal_folder=bundle)) as get:
        assert [(await get(path, method))[0] for path in ("/main.js", "/anything")] == [405, 405]


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/link.txt", "/.env", "//secret.txt", "/a%00b"]
)
async def test_no_path_leaves_the_folder(serve: Serve, bundle: Path, path: str) -> None:
    async with serve(HttpSettings(portal_folder=bundle)) as get:
        answer = await get.raw(f"GET {path} HTTP/1.1\r\nconnection: close\r\n\r\n".encode())

    assert b"a secret" not in answer
    assert b"200 OK" in answer
    assert answer.endswith(b"the bundle's index.html")


async def test_identity_headers_change_nothing_about_the_portal(serve: Serve, bundle: Path) -> None:
    async with serve(HttpSettings(portal_folder=bundle, caller_rate=limits.RateLimitItemPerHour(1))) as get:
        plain = await get("/main.js")
        answers = [
            await get("/main.js", X_Kedge_Cluster="1", X_Kedge_Tenant="2", Authorization="Bearer 3") for _ in range(3)
        ]

    assert [(status, body) for status, _, body in answers] == [(plain[0], plain[2])] * 3


async def test_without_a_bundle_there_is_a_landing_page_an_icon_and_no_script(serve: Serve, tmp_path: Path) -> None:
    async with serve(HttpSettings(portal_folder=tmp_path)) as get:
        landing, icon, script = await get("/"), await get("/icon.svg"), await get("/main.js")

    assert (landing[0], b"bundle is not installed" in landing[2]) == (200, True)
    assert (icon[0], icon[1]["Content-Type"]) == (200, "image/svg+xml")
    assert script[0] == 404


def test_a_folder_that_would_fill_the_memory_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_MOST_BYTES", 50)

    with pytest.raises(ValueError, match="has more than 50 bytes"):
        assets.Assets(bundle)


# Bounds

SMALL = {"most_body_bytes": 1024, "most_mcp_body_bytes": 8192, "most_bytes_in_flight": 12288}


async def pieces(size: int) -> AsyncIterator[bytes]:
    """A body without a Content-Length."""
    for _ in range(size // 512):
        yield b"x" * 512


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_is_small_except_at_mcp(serve: Serve, chunked: bool) -> None:
    def body(size: int) -> object:
        return pieces(size) if chunked else b"x" * size

    async with serve(HttpSettings(**SMALL), plain=echo_size, mcp=echo_size) as post:
        assert (await post("/plain", "POST", body(1024)))[2] == b"1024"
        assert (await post("/plain", "POST", body(1536)))[0] == 413
        assert (await post("/healthz", "POST", body(1536)))[0] == 413
        assert (await post("/mcp", "POST", body(8192)))[2] == b"8192"
        assert (await post("/mcp", "POST", body(8704)))[0] == 413
        assert (await post("/plain", "POST", body(1024)))[0] == 200


async def test_a_body_that_is_announced_too_large_is_not_asked_for(serve: Serve) -> None:
    async with serve(HttpSettings(**SMALL), plain=echo_size) as get:
        head = b"POST /plain HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 9999\r\n\r\n"
        answer = await get.raw(head)

    assert b" 413 " in answer
    assert b"connection: close" in answer
    assert b"100 Continue" not in answer


async def test_all_bodies_together_are_bounded_and_small_ones_keep_a_part(serve: Serve) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def held(_: Request) -> Response:
        entered.set()
        await leave.wait()
        return PlainTextResponse("done")

    routes = {"mcp": held, "plain": echo_size}
    async with serve(HttpSettings(**SMALL), **routes) as post, asyncio.timeout(BOUND_SECONDS):
        first = asyncio.create_task(post("/mcp", "POST", b"x" * 8192))
        await entered.wait()
        assert metric("code_http_body_bytes_in_flight") == 8192
        status, headers, _ = await post("/mcp", "POST", b"x" * 4096)
        small = await post("/plain", "POST", b"x" * 1024)
        leave.set()
        assert (await first)[2] == b"done"
        again = await post("/mcp", "POST", b"x" * 8192)

    assert (status, headers["Retry-After"], small[0], again[0]) == (503, "1", 200, 200)
    assert metric("code_http_body_bytes_in_flight") == 0


async def test_what_a_client_sent_before_it_hung_up_is_given_back(serve: Serve) -> None:
    reached = asyncio.Event()

    async def reach(_: Request) -> Response:
        reached.set()
        return Response()

    async with serve(HttpSettings(**SMALL), mcp=reach) as get, asyncio.timeout(BOUND_SECONDS):
        _, writer = await asyncio.open_connection(*get.address)
        writer.write(b"POST /mcp HTTP/1.1\r\ncontent-length: 8192\r\n\r\n" + b"x" * 4096)
        while metric("code_http_body_bytes_in_flight") == 0:
            await asyncio.sleep(0)
        writer.transport.abort()
        while metric("code_http_body_bytes_in_flight"):
            await asyncio.sleep(0)

    assert not reached.is_set()


async def test_a_long_head_is_431(serve: Serve) -> None:
    async with serve(HttpSettings(most_head_bytes=4096)) as get:
        assert (await get("/healthz", a="x" * 3500))[0] == 200
        assert (await get("/healthz", a="x" * 4090))[0] == 431
        assert (await get(f"/healthz?{'x' * 4090}"))[0] == 431


async def test_a_handler_that_takes_too_long_is_stopped(serve: Serve) -> None:
    stopped = asyncio.Event()

    async def endless(_: Request) -> Response:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    async with serve(HttpSettings(answer_timeout=timedelta(seconds=0.1)), plain=endless) as get:
        assert (await get("/plain"))[0] == 504

    assert stopped.is_set()


async def test_a_caller_over_the_limit_waits_and_others_do_not(serve: Serve) -> None:
    settings = HttpSettings(caller_rate=limits.RateLimitItemPerHour(2))
    async with serve(settings, plain=echo_size, mcp=echo_size) as get:

        async def statuses(path: str, **headers: str) -> list[int]:
            return [(await get(path, **headers))[0] for _ in range(3)]

        assert await statuses("/plain", Authorization="Bearer a", X_Kedge_Cluster="1") == [200, 200, 429]
        assert await statuses("/plain", Authorization="Bearer b", X_Kedge_Cluster="1") == [200, 200, 429]
        assert await statuses("/plain", Authorization="Bearer a", X_Kedge_Cluster="2") == [200, 200, 429]
        assert await statuses("/plain", X_Forwarded_For="9.9.9.9, 1.1.1.1") == [200, 200, 429]
        assert await statuses("/plain", X_Forwarded_For="9.9.9.9, 2.2.2.2") == [200, 200, 429]
        assert await statuses("/plain") == [200, 200, 429]
        assert await statuses("/mcp") == [200, 200, 200]
        assert await statuses("/healthz") == [200, 200, 200]
        _, headers, _ = await get("/plain")

    assert 3590 < int(headers["Retry-After"]) <= 3600


# What is recorded


async def fail(_: Request) -> Response:
    raise RuntimeError("the token is in here")


async def test_an_error_is_a_500_that_says_nothing(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async with serve(plain=fail) as get:
        status, _, body = await get("/plain")

    assert (status, body) == (500, b'{"detail":"Internal error."}')
    assert caplog.text.count("RuntimeError: the token is in here") == 1  # in the log, where it is redacted


async def test_the_access_log_has_no_query_and_no_header(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serve(plain=echo_size) as get:
            await get("/plain?code=the-code", Authorization="Bearer the-token", X_Kedge_User="the-user")
            await get("/healthz")
            await get("/" + "long" * 200)

    lines = {record.message.split(" ")[1]: record for record in caplog.records if record.name == "gateway.observed"}
    assert lines["/plain"].message.startswith("GET /plain 200 ")
    assert lines["/plain"].message.endswith(" ms")
    assert (lines["/plain"].levelname, lines["/healthz"].levelname) == ("INFO", "DEBUG")
    assert max(map(len, lines)) == 200
    assert not any(word in caplog.text for word in ("the-code", "the-token", "the-user"))


async def test_requests_are_counted_by_route_and_never_by_a_strangers_words(serve: Serve) -> None:
    def counted(method: str, route: str, status: str) -> float:
        return metric("code_http_requests_total", method=method, route=route, status=status)

    before = [counted("GET", "/plain", "200"), counted("_OTHER", "*", "405"), counted("GET", "*", "200")]
    async with serve(plain=echo_size) as get:
        await get("/plain")
        await get("/anything", "PURGE")
        await get("/anything")

    after = [counted("GET", "/plain", "200"), counted("_OTHER", "*", "405"), counted("GET", "*", "200")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1]
    assert metric("code_http_request_seconds_count", route="/plain") >= 1
    assert not metric("code_http_request_seconds_count", route="/anything")


async def test_a_span_continues_the_callers_trace(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    trace_id = os.urandom(16).hex()
    async with serve(plain=fail) as get:
        await get("/plain?secret=1", traceparent=f"00-{trace_id}-00f067aa0ba902b7-01")

    (span,) = spans.get_finished_spans()
    assert (span.name, f"{span.context.trace_id:032x}") == ("GET /plain", trace_id)
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "http.route": "/plain",
        "http.response.status_code": 500,
        "error.type": "RuntimeError",
    }
    assert not span.status.is_ok
    assert not span.events
