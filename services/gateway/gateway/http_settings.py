"""Settings of the HTTP surface: its bounds, and where the portal's bundle is."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Self

import limits
from pydantic import BeforeValidator, Field, model_validator

from codecommon.process.settings import INTERVAL, Interval, ServiceSettings

_BYTES: Final = "a number of bytes"
_RATE: Final = "a rate such as 600/minute or 10/second"


def _folder(value: object) -> object:
    # Unlike pathlib it takes a text that can be no path for a folder that is not there.
    if isinstance(value, str) and not os.path.isdir(value):
        raise ValueError(f"there is no folder {value}")
    return value


def _rate(value: object) -> object:
    if not isinstance(value, str):
        return value
    rate = limits.parse(value)
    if rate.amount < 1:
        raise ValueError("not more than zero")
    return rate


class HttpSettings(ServiceSettings):
    """What strangers may ask of the gateway, and what it shows them."""

    portal_folder: Annotated[Path, BeforeValidator(_folder)] | None = Field(
        default=None, validation_alias="CODE_PORTAL_DIR", description="the folder with the portal's main.js"
    )
    """None: the folder ``portal`` of the package, if there is one."""
    most_head_bytes: int = Field(
        default=64 << 10, ge=4096, validation_alias="CODE_HTTP_MAX_HEADER_BYTES", description=f"{_BYTES}, 4096 or more"
    )
    """Of the request line and the headers. Other servers take between 8 and 64 KiB."""
    most_body_bytes: int = Field(
        default=64 << 10, ge=1024, validation_alias="CODE_HTTP_MAX_BODY_BYTES", description=f"{_BYTES}, 1024 or more"
    )
    """Of one request to anything but ``/mcp``."""
    most_mcp_body_bytes: int = Field(
        default=48 << 20, ge=1024, validation_alias="CODE_MCP_MAX_BODY_BYTES", description=f"{_BYTES}, 1024 or more"
    )
    """Room for 16 MiB of text as JSON, which may escape each character."""
    most_bytes_in_flight: int = Field(
        default=128 << 20, ge=4096, validation_alias="CODE_HTTP_MAX_BYTES_IN_FLIGHT", description=_BYTES
    )
    """Of the bodies of all requests that are not answered yet. A quarter is kept for small bodies. Large answers of ``/mcp`` that
    their clients have not taken yet may have as much again.
    """
    request_timeout: Interval = Field(
        default=timedelta(seconds=30), validation_alias="CODE_HTTP_REQUEST_TIMEOUT", description=INTERVAL
    )
    """Until a request has arrived, and until a client has taken what it was sent."""
    answer_timeout: Interval = Field(
        default=timedelta(seconds=30), validation_alias="CODE_HTTP_ANSWER_TIMEOUT", description=INTERVAL
    )
    """From the arrival of a request until its answer is written. The hub gives up after 15 s."""
    caller_rate: Annotated[limits.RateLimitItem, BeforeValidator(_rate)] = Field(
        default=limits.RateLimitItemPerMinute(600), validation_alias="CODE_CALLER_LIMIT", description=_RATE
    )
    """Requests of one caller; of MCP, calls of tools."""

    @property
    def most_large_bytes(self) -> int:
        """What large bodies may take of the bytes in flight."""
        return self.most_bytes_in_flight // 4 * 3

    @model_validator(mode="after")
    def _one_body_fits(self) -> Self:
        if self.most_large_bytes < max(self.most_mcp_body_bytes, self.most_body_bytes):
            raise ValueError(
                "CODE_HTTP_MAX_BYTES_IN_FLIGHT: one body does not fit; accepted: four thirds of the longest body or more"
            )
        return self
