"""Whether a text is a URL that something can be asked at."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit


def is_url(text: str, schemes: Collection[str]) -> bool:
    """Whether it has one of the ``schemes``, a host, and no port that nobody can listen on."""
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
