"""What children write and what becomes of it in the one log."""

import io
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from code_provider import serve
from code_provider.children import Output
from code_provider.embedded_nats import log_line
from code_provider.serve import service_log
from codecommon.process import logs

TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.setup("code-provider", "info", "json", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_a_record_of_a_service_is_passed_on_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    service_log("watcher", "json")(b'{"message":"x","service":"watcher"}')

    assert capfd.readouterr().err == '{"message":"x","service":"watcher"}\n'


def test_what_is_no_record_becomes_one_that_names_the_service(stream: io.StringIO) -> None:
    service_log("watcher", "json")(b"Fatal Python error: \xff")

    record = json.loads(stream.getvalue())
    assert (record["service"], record["message"]) == ("watcher", "Fatal Python error: \ufffd")


def test_in_text_every_line_is_passed_on_redacted(capfd: pytest.CaptureFixture[str]) -> None:
    service_log("watcher", "text")(f"oops {TOKEN}".encode())

    assert capfd.readouterr().err == "oops <redacted>\n"


def test_nats_server_is_heard_from_warnings_on(stream: io.StringIO) -> None:
    log_line(b"[7] 2026/11/23 17:40:58.501777 [INF] Server is ready")
    log_line(b"[7] 2026/11/23 17:40:58.501858 [ERR] no space left on device")

    (record,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (record["service"], record["severity"]) == ("nats-server", "ERROR")
    assert record["message"] == "no space left on device"


def test_lines_are_cut_at_line_feeds_and_the_rest_comes_at_the_end() -> None:
    seen: list[bytes] = []
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    output = Output(reading, seen.append)

    os.write(writing, b"one\ntw")
    assert output.read()
    os.write(writing, b"o\nthree")
    os.close(writing)
    output.finish()

    assert seen == [b"one", b"two", b"three"]


def test_a_line_without_end_is_logged_in_pieces_instead_of_kept_in_memory() -> None:
    seen: list[bytes] = []
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    output = Output(reading, seen.append)

    for _ in range(40):
        os.write(writing, b"x" * 32768)
        assert output.read()
    assert sum(map(len, seen)) > 1 << 20
    os.close(writing)
    output.finish()

    assert sum(map(len, seen)) == 40 * 32768


def test_a_disk_that_is_full_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(serve, "_STDERR", full)
    try:
        service_log("watcher", "text")(b"a line")
    finally:
        os.close(full)


def test_a_line_is_written_whole_to_a_pipe_that_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(serve, "_STDERR", writing)
    os.set_blocking(writing, False)
    with ThreadPoolExecutor(1) as pool, open(reading, "rb") as read_end:
        read = pool.submit(read_end.readline)
        # More than a pipe holds (64 KiB), and less than the longest line (``codecommon.process.redact``).
        service_log("watcher", "text")(b"x" * 120_000)
        assert read.result(10) == b"x" * 120_000 + b"\n"
    os.close(writing)
