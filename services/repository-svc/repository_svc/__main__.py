"""Entry point of repository-svc."""

from codecommon.controller.settings import ReconcilerSettings
from codecommon.process.service import run
from repository_svc import app


def main() -> None:
    run("repository-svc", ReconcilerSettings, app.main)


if __name__ == "__main__":
    main()
