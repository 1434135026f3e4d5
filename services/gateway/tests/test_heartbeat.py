import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from codecommon.process.health import Readiness
from codecommon.process.secrets import SecretValue
from gateway import heartbeat
from gateway.heartbeat import HubHeartbeat


@dataclass
class Beat:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Hub:
    """A hub that keeps the heartbeats it gets and answers each with the next of ``statuses``, or with 200 if none is left."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    beats: asyncio.Queue[Beat] = field(default_factory=asyncio.Queue)

    async def handle(self, request: web.Request) -> web.Response:
        await self.beats.put(Beat(request.path, dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if self.statuses else 200
        return web.json_response({"status": "ok"}, status=status, headers={"Location": "/elsewhere"})

    async def next(self, count: int = 1) -> list[Beat]:
        async with asyncio.timeout(5):
            return [await self.beats.get() for _ in range(count)]


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    hub = Hub()
    app = web.Application()
    app.router.add_post("/api/providers/{name}/heartbeat", hub.handle)
    app.router.add_route("*", "/elsewhere", hub.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield hub
    await runner.cleanup()


Beating = Callable[[HubHeartbeat], AbstractAsyncContextManager[None]]


@pytest.fixture
def beating() -> Beating:
    @asynccontextmanager
    async def beating(heartbeat: HubHeartbeat) -> AsyncIterator[None]:
        task = asyncio.create_task(heartbeat.run())
        yield
        task.cancel()
        await asyncio.wait({task})

    return beating


async def test_the_first_heartbeat_is_sent_at_once_as_the_hub_reads_it(hub: Hub, beating: Beating) -> None:
    async with beating(HubHeartbeat(hub.url, "code", token=SecretValue("dev-token"))):
        (beat,) = await hub.next()

    assert beat.path == "/api/providers/code/heartbeat"
    assert beat.headers["Authorization"] == "Bearer dev-token"
    assert beat.headers["Content-Length"] == str(len(beat.body))
    assert "Transfer-Encoding" not in beat.headers
    assert beat.body == b'{"version":"%s","status":"healthy"}' % metadata.version("gateway").encode()


async def test_the_status_follows_readiness(hub: Hub, beating: Beating) -> None:
    readiness = Readiness()
    readiness.phase = "started"
    works = asyncio.Event()

    async def ping() -> None:
        if not works.is_set():
            raise ConnectionError

    readiness.ping("something", ping)

    async def wait_for(status: str) -> None:
        async with asyncio.timeout(5):
            while orjson.loads((await hub.beats.get()).body)["status"] != status:
                pass

    async with beating(HubHeartbeat(hub.url, "code", readiness=readiness, interval=0.01)):
        await wait_for("degraded")
        works.set()
        await wait_for("healthy")
        works.clear()
        await wait_for("degraded")


async def test_a_token_file_is_read_anew_and_its_last_token_stays_while_it_is_unreadable(
    hub: Hub, beating: Beating, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"

    async def wait_for(authorization: str | None) -> None:
        async with asyncio.timeout(5):
            while (await hub.beats.get()).headers.get("Authorization") != authorization:
                pass

    def put(content: bytes) -> None:
        (tmp_path / "next").write_bytes(content)
        (tmp_path / "next").replace(file)

    put(b"first\n")
    with caplog.at_level("INFO", "gateway.heartbeat"):
        async with beating(HubHeartbeat(hub.url, "code", token=SecretValue("x"), token_file=file, interval=0.01)):
            assert (await hub.next())[0].headers["Authorization"] == "Bearer first"
            put(b"second")
            await wait_for("Bearer second")
            for broken in (None, b"", b"\xff"):
                if broken is None:
                    file.unlink()
                else:
                    put(broken)
                beats = await hub.next(4)  # the last of them were sent after the change
                assert beats[-1].headers["Authorization"] == "Bearer second"
            put(b"third")
            await wait_for("Bearer third")

    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [line.partition(": ")[2] for line in said] == [
        "KEDGE_HUB_TOKEN_FILE cannot be read: FileNotFoundError",
        "KEDGE_HUB_TOKEN_FILE is empty",
        "KEDGE_HUB_TOKEN_FILE cannot be read: UnicodeDecodeError",
    ]


async def test_heartbeats_go_on_with_the_last_token_while_the_file_system_hangs(
    hub: Hub, beating: Beating, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    reads: list[Path] = []

    def read(path: Path) -> str:
        reads.append(path)
        assert answers.wait(10)
        return "new"

    monkeypatch.setattr(heartbeat, "_read", read)
    monkeypatch.setattr(heartbeat, "_READ_SECONDS", 0.01)
    token = SecretValue("last")
    try:
        async with beating(HubHeartbeat(hub.url, "code", token=token, token_file=Path("token"), interval=0.01)):
            assert {beat.headers["Authorization"] for beat in await hub.next(10)} == {"Bearer last"}
            assert len(reads) == 1  # each read that hangs takes a thread
            answers.set()
            async with asyncio.timeout(5):
                while (await hub.beats.get()).headers["Authorization"] != "Bearer new":
                    pass
    finally:
        answers.set()

    assert "the file system hangs" in caplog.text


async def test_a_heartbeat_comes_early_by_up_to_a_tenth_and_never_late(
    hub: Hub, beating: Beating, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    sleep = asyncio.sleep

    async def no_sleep(seconds: float) -> None:
        asked.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    chances = iter((0.0, 0.5, 1.0))
    async with beating(HubHeartbeat(hub.url, "code", chance=lambda: next(chances, 0.0))):
        await hub.next(4)

    assert asked[:3] == pytest.approx([30, 28.5, 27])


async def test_without_a_token_there_is_no_authorization(hub: Hub, beating: Beating) -> None:
    async with beating(HubHeartbeat(hub.url, "code")):
        (beat,) = await hub.next()

    assert "Authorization" not in beat.headers


async def test_heartbeats_go_on_after_the_interval_whatever_the_hub_answers(hub: Hub, beating: Beating) -> None:
    hub.statuses = [404, 500]
    started = time.monotonic()
    async with beating(HubHeartbeat(hub.url, "code", interval=0.1)):
        await hub.next(3)

    assert time.monotonic() - started >= 0.18  # each comes up to a tenth earlier


async def test_only_a_change_of_the_answer_is_logged(
    hub: Hub, beating: Beating, caplog: pytest.LogCaptureFixture
) -> None:
    hub.statuses = [404, 404, 500, 200, 200]
    with caplog.at_level("INFO", "gateway.heartbeat"):
        async with beating(HubHeartbeat(hub.url, "code", interval=0.01)):
            await hub.next(6)

    assert [(record.levelname, record.message.partition(":")[2].strip()) for record in caplog.records] == [
        ("WARNING", "the hub knows no provider 'code'; is its CatalogEntry applied?"),
        ("WARNING", "the hub answers 500"),
        ("INFO", ""),
    ]


async def test_the_token_does_not_follow_a_redirect(hub: Hub, beating: Beating) -> None:
    hub.statuses = [307]
    async with beating(HubHeartbeat(hub.url, "code", token=SecretValue("dev-token"), interval=0.01)):
        paths = {beat.path for beat in await hub.next(2)}

    assert paths == {"/api/providers/code/heartbeat"}


async def test_a_hub_that_is_not_there_is_a_warning_and_not_the_end(
    beating: Beating, caplog: pytest.LogCaptureFixture, unused_tcp_port: int
) -> None:
    logged = asyncio.Event()
    caplog.handler.addFilter(lambda record: logged.set() or True)
    with caplog.at_level("INFO", "gateway.heartbeat"):
        async with beating(HubHeartbeat(f"http://127.0.0.1:{unused_tcp_port}", "code")):
            async with asyncio.timeout(5):
                await logged.wait()

    assert "ClientConnectorError" in caplog.text
