"""The settings of the crawler, on top of those of every process that asks git hosts."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from codecommon.controller.settings import ReconcilerSettings
from codecommon.process.settings import INTERVAL, Interval


class CrawlerSettings(ReconcilerSettings):
    crawl_interval: Interval = Field(
        default=timedelta(minutes=2), validation_alias="CODE_PACKAGE_CRAWL_INTERVAL", description=INTERVAL
    )
    """How often an owner is looked at whose packages move. One whose packages do not is looked at less often."""
