import io
import json
import logging
import os
from collections.abc import Iterator

import pytest

from code_provider.lines import Lines, nats_log, service_log
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
    log = nats_log("nats-server")
    log(b"[7] 2026/11/23 17:40:58.501777 [INF] Server is ready")
    log(b"[7] 2026/11/23 17:40:58.501858 [WRN] Plaintext passwords detected, use nkeys or bcrypt")
    log(b"[7] 2026/11/23 17:40:58.501858 [ERR] no space left on device")

    (record,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (record["service"], record["severity"]) == ("nats-server", "ERROR")
    assert record["message"] == "no space left on device"


def test_lines_are_cut_at_line_feeds_and_the_rest_comes_at_the_end() -> None:
    seen: list[bytes] = []
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    lines = Lines(reading, seen.append)

    os.write(writing, b"one\ntw")
    assert lines.read()
    os.write(writing, b"o\nthree")
    os.close(writing)
    lines.finish()

    assert seen == [b"one", b"two", b"three"]
