"""Entry point of the watcher."""

from codecommon.service import run
from codecommon.settings import ServiceSettings
from watcher import app


def main() -> None:
    run("watcher", ServiceSettings, app.main)


if __name__ == "__main__":
    main()
