"""Entry point of gateway."""

from codecommon.process.service import run
from gateway import app
from gateway.settings import GatewaySettings


def main() -> None:
    run("gateway", GatewaySettings, app.main)


if __name__ == "__main__":
    main()
