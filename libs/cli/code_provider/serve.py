"""``code-provider serve``: runs the six services under one supervisor, and a nats-server unless ``NATS_URL`` names one.

With ``CODE_SERVE_INIT`` it runs ``init`` beside them, so that an installation of one process needs nothing else.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from code_provider.children import Program
from code_provider.data_folder import DataFolder, DataFolderInUse, DataFolderUnusable
from code_provider.embedded_nats import EmbeddedNats, NoNatsServer
from code_provider.init import declare_streams, init_once_possible
from code_provider.serve_settings import ServeSettings
from code_provider.services import SERVICES, main_of
from code_provider.supervisor import Supervisor
from codecommon.messaging.topology import INIT
from codecommon.process import logs
from codecommon.process.redact import redact
from codecommon.process.service import EXIT_FAILED, EXIT_SETTINGS
from codecommon.process.settings import LogFormat, SettingsError

_output = logging.getLogger("output")

_FOR_ONE_SERVICE: Final[Mapping[str, str]] = {
    "KEDGE_HUB_TOKEN": "gateway",
    "GITHUB_OAUTH_CLIENT_SECRET": "gateway",
    "GITHUB_OAUTH_COOKIE_KEYS": "gateway",
}
"""Secrets that one service needs. The others are not given them."""

_STDERR: Final = 2


def serve(environ: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 0 after a stop, 1 if it cannot run, 2 if a setting is wrong."""
    try:
        settings = ServeSettings.load(environ)
    except SettingsError as error:
        return _refuse(error, EXIT_SETTINGS)
    environ = dict(environ)
    log_format = logs.setup("code-provider", settings.log_level, settings.log_format)
    try:
        with Supervisor() as supervisor, DataFolder(settings.data_folder) as folder:
            nats = None
            if settings.external_nats is None:
                nats = EmbeddedNats(folder.private("nats"), environ, folder.lock_fd)
            return supervisor.run(_stages(environ, settings, log_format, nats))
    except DataFolderUnusable as error:
        return _refuse(error, EXIT_SETTINGS)
    except (DataFolderInUse, NoNatsServer) as error:
        return _refuse(error, EXIT_FAILED)


def _stages(
    environ: Mapping[str, str], settings: ServeSettings, log_format: LogFormat, nats: EmbeddedNats | None
) -> list[list[Program]]:
    # The children share the memory of everything imported before the first fork. The garbage collector writes to the objects that
    # it looks at, which would copy them; frozen objects it leaves alone.
    gc.disable()
    mains = {name: main_of(name) for name in SERVICES}
    gc.collect()
    gc.freeze()

    def service_environ(name: str) -> dict[str, str]:
        own = own_environ(name, environ)
        if nats is not None:
            # What was meant for another server does not fit ours.
            own = {key: value for key, value in own.items() if not key.startswith("NATS_")} | nats.client_environ()
        port = str(health_port(name, settings.first_health_port))
        return {**own, "CODE_LOG_FORMAT": log_format, "CODE_HEALTH_PORT": port}

    services = [
        Program(
            name,
            run=main,
            environ=partial(service_environ, name),
            log=service_log(name, log_format),
            fatal=frozenset({EXIT_SETTINGS}),
        )
        for name, main in mains.items()
    ]
    if settings.run_init:
        # Beside the services: they wait by themselves for what init makes, and the gateway answers without.
        services.append(
            Program(
                INIT,
                run=init_once_possible,
                environ=partial(service_environ, INIT),
                log=service_log(INIT, log_format, logging.INFO),
                fatal=frozenset({EXIT_SETTINGS}),
                once=True,
            )
        )
    if nats is None:
        return [services]
    streams = Program(
        "streams",
        run=declare_streams,
        environ=partial(service_environ, INIT),
        log=service_log(INIT, log_format),
        fatal=frozenset({EXIT_SETTINGS}),
        once=True,
    )
    return [[nats.program()], [streams], services]


def health_port(service: str, first: int) -> int:
    """The port of a service's ``/livez``, ``/readyz`` and ``/metrics``: six in a row from ``first``. 0: any free one."""
    return first + SERVICES.index(service) if first and service in SERVICES else 0


def own_environ(service: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What ``service`` is given of ``environ``."""
    return {key: value for key, value in environ.items() if _FOR_ONE_SERVICE.get(key, service) == service}


def service_log(service: str, log_format: LogFormat, level: int = logging.WARNING) -> Callable[[bytes], None]:
    """Passes on the lines of a service.

    They are log records in ``log_format`` already, except for what an interpreter writes itself. In JSON that becomes a record
    of ``level``.
    """

    def pass_on(line: bytes) -> None:
        text = line.decode(errors="replace")
        if log_format == "json" and not text.startswith("{"):
            _output.log(level, "%s", text, extra={"service": service})
        else:
            _write(logs.printable(redact(text)))

    return pass_on


def _write(line: str) -> None:
    """Write the whole line to stderr. If nobody reads any more, or the disk is full, it is lost and the work goes on."""
    remaining = memoryview(f"{line}\n".encode())
    while remaining:
        try:
            remaining = remaining[os.write(_STDERR, remaining) :]
        except BlockingIOError:
            # Another process that shares the terminal has made it non-blocking.
            select.select((), (_STDERR,), ())
        except OSError:
            return


def _refuse(error: Exception, code: int) -> int:
    print(f"code-provider serve: {error}", file=sys.stderr)
    return code
