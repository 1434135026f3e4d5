"""Entry point of package-crawler."""

from codecommon.process.service import run
from package_crawler import app
from package_crawler.settings import CrawlerSettings


def main() -> None:
    run("package-crawler", CrawlerSettings, app.main)


if __name__ == "__main__":
    main()
