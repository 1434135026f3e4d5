"""Entry point of access-svc."""

from access_svc import app
from codecommon.service import run
from codecommon.settings import ServiceSettings


def main() -> None:
    run("access-svc", ServiceSettings, app.main)


if __name__ == "__main__":
    main()
