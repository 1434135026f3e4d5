"""The crawler's own setting."""

from datetime import timedelta

import pytest

from codecommon.process.settings import SettingsError
from package_crawler.settings import CrawlerSettings


def test_the_interval_is_two_minutes_or_a_go_duration() -> None:
    assert CrawlerSettings.load({}).crawl_interval == timedelta(minutes=2)
    assert CrawlerSettings.load({"CODE_PACKAGE_CRAWL_INTERVAL": "1h30m"}).crawl_interval == timedelta(minutes=90)


@pytest.mark.parametrize("value", ["0", "-1s", "5", "soon"])
def test_a_wrong_interval_is_one_clear_line(value: str) -> None:
    with pytest.raises(SettingsError, match=r"CODE_PACKAGE_CRAWL_INTERVAL: .*; accepted: a Go duration"):
        CrawlerSettings.load({"CODE_PACKAGE_CRAWL_INTERVAL": value})
