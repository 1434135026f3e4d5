import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator

import pytest

from codecommon.process import logs

TOKEN = "ghp_" + "a1B2" * 9


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hook = list(root.handlers), root.level, sys.excepthook
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook = hook
    logging.captureWarnings(False)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def json_lines(stream: io.StringIO):
    logs.setup("watcher", "info", "json", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_json_line_with_time_severity_logger_and_service(json_lines) -> None:
    logging.getLogger("a.b").warning("two\nlines %d", 2)

    (line,) = json_lines()
    assert line["timestamp"].endswith("Z")
    assert {k: line[k] for k in ("severity", "message", "logger", "service")} == {
        "severity": "WARNING",
        "message": "two\nlines 2",
        "logger": "a.b",
        "service": "watcher",
    }


def test_bound_fields_are_in_every_record_until_the_block_ends(json_lines) -> None:
    with logs.bind(kind="Repository", cluster="c1", name="r"), logs.bind(generation=3):
        logging.getLogger("x").info("inside")
    logging.getLogger("x").info("outside")

    inside, outside = json_lines()
    assert {k: inside[k] for k in ("kind", "cluster", "name", "generation")} == {
        "kind": "Repository",
        "cluster": "c1",
        "name": "r",
        "generation": 3,
    }
    assert "kind" not in outside


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_token_reaches_the_log_neither_in_message_nor_context_nor_trace(stream: io.StringIO, log_format) -> None:
    logs.setup("watcher", "info", log_format, stream)

    with logs.bind(name=TOKEN):
        try:
            raise ValueError(f"bad credential {TOKEN}")
        except ValueError:
            logging.getLogger("x").exception("failed with %s", TOKEN)

    assert "ValueError" in stream.getvalue()
    assert TOKEN not in stream.getvalue()


def test_an_uncaught_exception_is_logged_redacted(json_lines) -> None:
    error = RuntimeError(f"no {TOKEN}")

    sys.excepthook(RuntimeError, error, None)

    (line,) = json_lines()
    assert line["severity"] == "CRITICAL"
    assert TOKEN not in str(line)


def test_arguments_of_a_record_that_cannot_be_formatted_are_not_printed(stream: io.StringIO, capsys) -> None:
    logs.setup("watcher", "info", "json", stream)

    logging.getLogger("x").info("%d", TOKEN)

    assert "cannot be written" in stream.getvalue()
    assert TOKEN not in stream.getvalue() + capsys.readouterr().err


def test_setting_up_twice_leaves_one_handler(stream: io.StringIO) -> None:
    logs.setup("watcher", "info", "json", stream)
    logs.setup("watcher", "info", "json", stream)

    logging.getLogger("x").info("once")

    assert len(stream.getvalue().splitlines()) == 1


def test_a_warning_of_a_library_becomes_a_record(json_lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    assert "old" in json_lines()[0]["message"]


def test_request_logs_of_libraries_stay_out_even_at_debug_level(stream: io.StringIO) -> None:
    logs.setup("watcher", "debug", "json", stream)

    for name in ("httpx", "httpcore.http11", "nats.aio.client", "mcp.server", "aiohttp.access", "uvicorn.error"):
        logging.getLogger(name).info("request")
    logging.getLogger("codecommon.x").debug("ours")

    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["ours"]


def test_text_of_a_tenant_cannot_forge_a_line(stream: io.StringIO) -> None:
    logs.setup("watcher", "info", "text", stream)

    logging.getLogger("x").info("name\n2026-01-01T00:00:00Z ERROR forged")

    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize("character", ["\x1b", "\x9b", "\u202e", "\u2028", "\x85", "\t"])
def test_what_is_not_printable_is_escaped_in_text(stream: io.StringIO, character: str) -> None:
    logs.setup("watcher", "info", "text", stream)

    with logs.bind(name=f"a{character}b"):
        try:
            raise ValueError(f"c{character}d")
        except ValueError:
            logging.getLogger("x").exception("e%sf", character)

    escaped = character.encode("unicode_escape").decode()
    assert character not in stream.getvalue()
    assert all(text in stream.getvalue() for text in (f"a{escaped}b", f"e{escaped}f"))


def test_a_record_may_come_from_another_process(json_lines) -> None:
    logging.getLogger("output").info("ready", extra={"service": "nats-server"})

    assert json_lines()[0]["service"] == "nats-server"


# ---- warnings that repeat


def test_warnings_of_one_cause_are_one_line_per_interval_with_a_count(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    repeated = logs.Repeated(logging.getLogger("a"), 60.0, lambda: now)
    for n in range(1000):
        repeated.warning("kcp 400", "kcp refused: %d", n)
    repeated.warning("kcp 403", "kcp refused: %s", "another")
    assert caplog.messages == ["kcp refused: 0", "kcp refused: another"]
    now = 60.0
    repeated.warning("kcp 400", "kcp refused: %d", 1000)
    assert caplog.messages[2:] == ["kcp refused: 1000; 999 more like this since the last one"]
    now = 120.0
    repeated.warning("kcp 400", "kcp refused: %d", 1001)
    assert caplog.messages[3:] == ["kcp refused: 1001"]


def test_causes_without_end_take_no_memory_without_end() -> None:
    repeated = logs.Repeated(logging.getLogger("a"))
    for n in range(1000):
        repeated.warning(str(n), "m")
    assert len(repeated._warned) == 100
