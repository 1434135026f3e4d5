"""``code-provider serve``: the six services, and a nats-server unless ``NATS_URL`` names one, under one supervisor."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Final

from code_provider.children import Program
from code_provider.data_folder import DataFolder, DataFolderInUse, DataFolderUnusable
from code_provider.embedded_nats import EmbeddedNats, NoNatsServer
from code_provider.lines import service_log
from code_provider.serve_settings import ServeSettings
from code_provider.supervisor import Supervisor
from codecommon.process import logs
from codecommon.process.service import EXIT_FAILED, EXIT_SETTINGS
from codecommon.process.settings import LogFormat, SettingsError

_log = logging.getLogger(__name__)

# The distribution's name; its package has an underscore for the hyphen.
SERVICES: Final = ("watcher", "connection-svc", "repository-svc", "access-svc", "package-crawler", "gateway")


def serve(environ: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 0 stopped, 1 cannot run, 2 a setting is wrong."""
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
                nats = EmbeddedNats(folder.path / "nats", environ, folder.lock_fd)
            return supervisor.run(_stages(environ, log_format, nats))
    except DataFolderUnusable as error:
        return _refuse(error, EXIT_SETTINGS)
    except (DataFolderInUse, NoNatsServer) as error:
        return _refuse(error, EXIT_FAILED)


def _stages(environ: Mapping[str, str], log_format: LogFormat, nats: EmbeddedNats | None) -> list[list[Program]]:
    # What is imported here, before any child is forked, is in memory once. Objects that the collector never looks at are
    # not written to by it either, and so stay shared.
    gc.disable()
    mains = {name: _main_of(name) for name in SERVICES}
    gc.collect()
    gc.freeze()

    def service_environ() -> dict[str, str]:
        bus = nats.client_environ() if nats is not None else {}
        # One port cannot be had six times; probes of this pod ask the gateway.
        return {**environ, **bus, "CODE_LOG_FORMAT": log_format, "CODE_HEALTH_PORT": "0"}

    services = [
        Program(
            name, run=main, environ=service_environ, log=service_log(name, log_format), fatal=frozenset({EXIT_SETTINGS})
        )
        for name, main in mains.items()
    ]
    return [[nats.program()], services] if nats is not None else [services]


def _main_of(service: str) -> Callable[[], int]:
    main: Callable[[], None] = importlib.import_module(f"{service.replace('-', '_')}.__main__").main

    def run() -> int:
        main()
        return 0

    return run


def _refuse(error: Exception, code: int) -> int:
    print(f"code-provider serve: {error}", file=sys.stderr)
    return code
