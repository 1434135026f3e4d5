"""Entry point of the watcher."""

from codecommon.process.service import run
from codecommon.process.settings import ServiceSettings
from watcher import app


def main() -> None:
    run("watcher", ServiceSettings, app.main)


if __name__ == "__main__":
    main()
