"""Entry point of repository-svc."""

from codecommon.service import run
from codecommon.settings import ServiceSettings
from repository_svc import app


def main() -> None:
    run("repository-svc", ServiceSettings, app.main)


if __name__ == "__main__":
    main()
