"""Entry point of connection-svc."""

from codecommon.service import run
from codecommon.settings import ServiceSettings
from connection_svc import app


def main() -> None:
    run("connection-svc", ServiceSettings, app.main)


if __name__ == "__main__":
    main()
