"""The life of a process: settings, logging, health, one task group, and an orderly end.

An exception in any task, or an event loop that hangs, ends the process with exit code 1, and its supervisor starts it
again. A wrong setting is one line on stderr and exit code 2.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any, Final, Generic, NoReturn, TypeVar

import uvloop

from codecommon.process import health, logs, telemetry
from codecommon.process.health import Ping, Readiness
from codecommon.process.liveness import Liveness
from codecommon.process.settings import ServiceSettings, SettingsError

_log = logging.getLogger(__name__)

SettingsT = TypeVar("SettingsT", bound=ServiceSettings)
SettingsT_co = TypeVar("SettingsT_co", bound=ServiceSettings, covariant=True)

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2

_DRAIN_SECONDS: Final = 6.0
# Cancelled tasks, executor threads and the last export of spans get this long. Then the process exits as it is: a task
# that ignores its cancellation must not leave a half-dead process. Together with the drain a stop stays below its limit
# of 10 s.
_END_SECONDS: Final = 1.5


class CannotRun(Exception):
    """The process cannot do its work for an outside reason. The text is one line for the operator, logged without a
    trace.
    """


def cannot_listen(variable: str, host: str, port: int, error: OSError) -> CannotRun:
    """The error for an address that the process cannot listen on. ``variable`` is the setting that names the port."""
    # The event loop writes its own prose into strerror. A failed look-up of the host has a negative errno.
    why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    return CannotRun(f"cannot listen on {host or '*'}:{port} ({variable}): {why}")


class Service(Generic[SettingsT_co]):
    """What the ``main`` of a service works with."""

    def __init__(self, name: str, settings: SettingsT_co) -> None:
        self.name = name
        self.settings = settings
        self.stopping = asyncio.Event()
        """Set once the process is asked to stop. ``main`` then has 6 s to finish what is in flight and return."""
        self.readiness = Readiness()
        self.liveness = Liveness()
        self.group = asyncio.TaskGroup()
        self.tasks: set[asyncio.Task[Any]] = set()

    def ping(self, name: str, ping: Ping) -> None:
        """Make ``ping`` a condition of ``/readyz``. It fails if it raises or takes longer than two seconds."""
        self.readiness.ping(name, ping)

    def ready(self) -> None:
        """Start-up is complete. Until now ``/readyz`` answered 503; from now on the pings decide."""
        self.readiness.phase = "started"
        _log.info("started")

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run ``work`` beside ``main``. An exception in it ends the process. It is cancelled once ``main`` has
        returned.
        """
        task = self.group.create_task(_noted(work, f"in task {name!r} of {self.name}"), name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


Main = Callable[[Service[SettingsT]], Coroutine[Any, Any, None]]
"""The composition root of a service. It constructs clients, registers pings, and returns once ``stopping`` is set."""


def run(name: str, settings_type: type[SettingsT], main: Main[SettingsT]) -> NoReturn:
    """Run ``main`` as the process ``name`` until SIGTERM or SIGINT, then exit.

    Exit codes: 0 after an orderly stop, 1 if a task failed, 2 for a wrong setting.
    """
    try:
        settings = settings_type.load()
    except SettingsError as error:
        sys.stderr.write(f"{name}: {error}\n")
        sys.exit(EXIT_SETTINGS)
    faulthandler.enable()
    logs.setup(name, settings.log_level, settings.log_format)
    end_telemetry = telemetry.setup(name, settings.telemetry)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_live(name, settings, main))
    end_telemetry()
    sys.exit(code)


async def _live(name: str, settings: SettingsT, main: Main[SettingsT]) -> int:
    """The process from its first task to its exit code."""
    service = Service(name, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.stopping.set)
    try:
        async with service.group, AsyncExitStack() as stack:
            await _open_health(service, stack)
            service.spawn(service.liveness.run(), "liveness")
            try:
                await _run_until_stopped(service, main)
            finally:
                _end_within(_END_SECONDS)
    except ExceptionGroup as group:
        for error in _leaves(group):
            if isinstance(error, CannotRun):
                _log.critical("%s", error)
            else:
                _log.critical("the process ends: %s", type(error).__name__, exc_info=error)
        return EXIT_FAILED
    return 0


async def _open_health(service: Service[Any], stack: AsyncExitStack) -> None:
    settings: ServiceSettings = service.settings
    try:
        serving = health.serve(service.readiness, service.liveness, settings.health_host, settings.health_port)
        host, port = await stack.enter_async_context(serving)
    except OSError as error:
        raise cannot_listen("CODE_HEALTH_PORT", settings.health_host, settings.health_port, error) from None
    _log.info("health endpoints on http://%s:%d", f"[{host}]" if ":" in host else host, port)


async def _run_until_stopped(service: Service[SettingsT], main: Main[SettingsT]) -> None:
    work = service.spawn(main(service), "main")
    stop = service.spawn(service.stopping.wait(), "stop")
    await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not service.stopping.is_set():
        raise RuntimeError("main returned although the process was not asked to stop")
    # Before start-up is complete nothing is in flight, and main may wait for something that never comes.
    drain = service.readiness.phase == "started"
    service.readiness.phase = "stopping"
    _log.info("stopping")
    _, late = await asyncio.wait({work}, timeout=_DRAIN_SECONDS if drain else 0)
    if late and drain:
        _log.warning("what was in flight is not finished after %g s and is cancelled", _DRAIN_SECONDS)
    for task in list(service.tasks):
        task.cancel()


async def _noted(work: Coroutine[Any, Any, Any], note: str) -> Any:
    """Await ``work``. ``note`` is added to the trace of an exception."""
    try:
        return await work
    except Exception as error:
        error.add_note(note)
        raise


def _leaves(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _end_within(seconds: float) -> None:
    def end() -> None:
        _log.error("the process has not ended by itself after %g s", seconds)
        os._exit(EXIT_FAILED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
