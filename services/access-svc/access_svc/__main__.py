"""Entry point of access-svc."""

from codecommon.service import run
from codecommon.settings import ServiceSettings

from access_svc import app


def main() -> None:
    run("access-svc", ServiceSettings, app.main)


if __name__ == "__main__":
    main()
