"""When a token expires, as GitHub's header tells."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import httpx

_HEADER: Final = "github-authentication-token-expiration"
# github.com writes `2026-12-01 00:00:00 UTC`, other times and servers an offset.
_FORMATS: Final = ("%Y-%m-%d %H:%M:%S %z", "%Y-%m-%dT%H:%M:%S%z")


def token_expiry(headers: httpx.Headers) -> datetime | None:
    """The end of the token that was sent, in UTC; None when it has none or the host does not tell."""
    text = headers.get(_HEADER, "").strip().replace(" UTC", " +0000")
    for form in _FORMATS:
        try:
            return datetime.strptime(text, form).astimezone(UTC)
        except ValueError:
            continue
    return None
