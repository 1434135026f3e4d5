"""Entry point of access-svc."""

from access_svc import app
from codecommon.controller.settings import ReconcilerSettings
from codecommon.process.service import run


def main() -> None:
    run("access-svc", ReconcilerSettings, app.main)


if __name__ == "__main__":
    main()
