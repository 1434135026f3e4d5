"""Structured logging with the standard library: one line per record on stderr, as JSON or text.

Message, bound fields and exception trace of every record are redacted here, so no caller has to.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

import orjson

from codecommon.process import telemetry
from codecommon.process.redact import cut, redact
from codecommon.process.settings import LogFormat, LogLevel

_log = logging.getLogger(__name__)

# These log once per request, reconnect or message. At debug level some of them log request headers, so their level is fixed.
_NOISY: Final = (
    "aiohttp.access",
    "httpcore",
    "httpx",
    "httpx2",
    "kubernetes_asyncio",
    "mcp",
    "nats",
    "opentelemetry",
    "urllib3",
    "uvicorn",
)

# What a host or a tenant sent may be in a record, and redaction takes time. Our own messages and traces are shorter than this.
_LONGEST_MESSAGE: Final = 8 * 1024
_LONGEST_FIELD: Final = 1024
_LONGEST_TRACE: Final = 32 * 1024

_MOST_CAUSES: Final = 100

_bound: ContextVar[dict[str, str | int]] = ContextVar("codecommon.process.logs.bound", default={})  # noqa: B039 - never mutated


@contextmanager
def bind(**fields: str | int) -> Iterator[None]:
    """Add ``fields`` (kind, cluster, name, generation, …) to every record of this task and of the tasks that it starts."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def setup(service: str, level: LogLevel, log_format: LogFormat | None, stream: TextIO | None = None) -> LogFormat:
    """Replace the logging of the process by this. Returns the format in use.

    Uncaught exceptions and warnings are logged too. ``log_format`` None means text on a terminal and JSON elsewhere.
    """
    target: TextIO = stream or sys.stderr
    chosen: LogFormat = log_format or ("text" if target.isatty() else "json")
    handler = _Handler(target)
    handler.setFormatter(JsonFormatter(service) if chosen == "json" else TextFormatter(service))
    root = logging.getLogger()
    for previous in list(root.handlers):
        root.removeHandler(previous)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    return chosen


class Repeated:
    """Warnings that one cause brings for many objects: one line per cause and ``interval`` seconds, with a count.

    The others are logged at debug level. ``clock``: seconds, monotonic.
    """

    def __init__(
        self, logger: logging.Logger, interval: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._logger = logger
        self._interval = interval
        self._clock = clock
        self._warned: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """When it was warned of, and how often it came since, by cause; the oldest warning first."""

    def warning(self, cause: str, message: str, *args: object) -> None:
        """Warn, unless ``cause`` was warned of a moment ago. A cause is what all such warnings have in common."""
        now = self._clock()
        last, more = self._warned.get(cause, (-math.inf, 0))
        if now - last < self._interval:
            self._warned[cause] = (last, more + 1)
            self._logger.debug(message, *args)
            return
        self._warned[cause] = (now, 0)
        self._warned.move_to_end(cause)
        if len(self._warned) > _MOST_CAUSES:
            self._warned.popitem(last=False)
        if more:
            message, args = message + "; %d more like this since the last one", (*args, more)
        self._logger.warning(message, *args)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:
        """Name the call that cannot be logged. The standard handler would print its arguments, which are not redacted."""
        with suppress(OSError, ValueError):  # the stream is closed, or nobody reads it any more
            self.stream.write(f"a log record of {record.name}, line {record.lineno}, cannot be written\n")


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _log.critical("uncaught exception", exc_info=(kind, error, trace))


class JsonFormatter(logging.Formatter):
    """One JSON object per record. A record's ``service`` attribute, if there is one, names the process that it comes from."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": _timestamp(record),
            "severity": record.levelname,
            "message": redact(cut(record.getMessage(), _LONGEST_MESSAGE)),
            "logger": record.name,
            "service": getattr(record, "service", self._service),
            **_context(),
        }
        trace = _trace(self, record)
        if trace:
            line["exception"] = trace
        return orjson.dumps(line).decode()


class TextFormatter(logging.Formatter):
    """``time LEVEL service logger: message key=value …`` for people. An exception's trace follows on lines of its own."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        message = printable(redact(cut(record.getMessage(), _LONGEST_MESSAGE)))
        service = getattr(record, "service", self._service)
        head = f"{_timestamp(record)} {record.levelname:<8} {service} {record.name}: {message}"
        line = " ".join((head, *(f"{key}={printable(str(value))}" for key, value in _context().items())))
        trace = "\n".join(map(printable, _trace(self, record).split("\n")))
        return f"{line}\n{trace}" if trace else line


def printable(text: str) -> str:
    """``text`` with every character escaped that is no letter, sign or space.

    A line feed in a tenant's text must not begin something that looks like a record. An escape sequence must not command the
    terminal, and a mark of writing direction must not show the line in another order.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _context() -> dict[str, str | int]:
    fields = {
        key: redact(cut(value, _LONGEST_FIELD)) if isinstance(value, str) else value
        for key, value in _bound.get().items()
    }
    trace_id = telemetry.trace_id()
    if trace_id is not None:
        fields["trace_id"] = trace_id
    return fields


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts: list[str] = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return redact(cut("\n".join(parts), _LONGEST_TRACE))
