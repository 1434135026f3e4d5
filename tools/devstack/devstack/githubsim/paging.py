"""Lists in pages, with GitHub's `Link` header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode

from devstack.githubsim.calls import Call

DEFAULT_PER_PAGE, MAX_PER_PAGE = 30, 100

Item = TypeVar("Item")


def page(call: Call, items: Sequence[Item]) -> tuple[Sequence[Item], Mapping[str, str]]:
    """The items of the requested page, and the headers that lead to the others."""
    per_page, number = requested_page(call)
    last = max(1, -(-len(items) // per_page))
    links: list[str] = []
    if number > 1:
        links.append(_link(call, min(number - 1, last), "prev"))
    if number < last:
        links += [_link(call, number + 1, "next"), _link(call, last, "last")]
    if number > 1:
        links.append(_link(call, 1, "first"))
    start = (number - 1) * per_page
    return items[start : start + per_page], {"Link": ", ".join(links)} if links else {}


def requested_page(call: Call) -> tuple[int, int]:
    """Items in a page, and the number of the page, from 1."""
    per_page = min(_positive(call.query.get("per_page"), DEFAULT_PER_PAGE), MAX_PER_PAGE)
    return per_page, _positive(call.query.get("page"), 1)


def _link(call: Call, number: int, relation: str) -> str:
    query = urlencode({**call.query, "page": number})
    return f'<{call.urls.api}{call.path}?{query}>; rel="{relation}"'


def _positive(text: str | None, default: int) -> int:
    # The host falls back to the default for what is no positive number; it does not refuse it.
    return int(text) if text is not None and text.isdecimal() and int(text) > 0 else default
