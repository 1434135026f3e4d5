"""Entry point of connection-svc."""

from codecommon.controller.settings import ReconcilerSettings
from codecommon.process.service import run
from connection_svc import app


def main() -> None:
    run("connection-svc", ReconcilerSettings, app.main)


if __name__ == "__main__":
    main()
