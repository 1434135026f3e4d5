"""Entry point of package-crawler."""

from codecommon.process.service import run
from codecommon.process.settings import ServiceSettings
from package_crawler import app


def main() -> None:
    run("package-crawler", ServiceSettings, app.main)


if __name__ == "__main__":
    main()
