"""The host page as the hub serves it (hub-contract.md §3.2, §6.2, §6.6)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import pytest
from hub_bed import Bed, hub_bed

CSP = (
    "default-src 'self'; frame-src 'self'; img-src 'self' data:; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self'; font-src 'self' data:"
)
# hub-contract.md §6.2, spelled out
PROPERTIES = {
    *(f"--font-{name}" for name in ("sans", "display", "mono")),
    *(f"--radius-{name}" for name in ("xs", "sm", "md", "lg", "xl", "2xl", "3xl")),
    *(f"--color-surface{name}" for name in ("", "-raised", "-overlay", "-hover", "-base")),
    *(f"--color-border-{name}" for name in ("subtle", "default")),
    *(f"--color-accent{name}" for name in ("", "-hover", "-subtle", "-glow")),
    "--color-on-accent",
    *(f"--color-text-{name}" for name in ("primary", "secondary", "muted", "error")),
    *(f"--color-success{name}" for name in ("", "-subtle", "-border")),
    *(f"--color-warning{name}" for name in ("", "-subtle")),
    *(f"--color-danger{name}" for name in ("", "-subtle", "-hover", "-surface")),
}


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with hub_bed(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    "path", ["/ui", "/ui/", "/ui/providers/code/repositories/one", "/ui/providers/nobody/", "/ui/settings"]
)
async def test_a_path_of_the_portal_is_the_page_with_the_hubs_security_headers(bed: Bed, path: str) -> None:
    async with bed.client.get(path) as response:
        assert (response.status, response.content_type) == (200, "text/html")
        assert response.headers["Content-Security-Policy"] == CSP
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "strict-origin-when-cross-origin"


async def test_all_that_the_page_names_is_there(bed: Bed) -> None:
    async with bed.client.get("/ui/") as response:
        named = re.findall(r'(?:src|href)="(/ui/assets/[^"]+)"', await response.text())
    assert len(named) == 3
    for path in named:
        async with bed.client.get(path) as response:
            assert response.status == 200
    async with bed.client.get("/ui/assets/other.js") as response:
        assert response.status == 404


async def test_the_root_leads_to_the_page(bed: Bed) -> None:
    async with bed.client.get("/", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "/ui/")


def test_both_themes_give_every_colour_of_the_hub() -> None:
    dark, light = files("devstack.devhub").joinpath("portal/theme.css").read_text().split("html.light")
    assert set(re.findall(r"^\s*(--[\w-]+):", dark, re.MULTILINE)) == PROPERTIES
    assert set(re.findall(r"^\s*(--[\w-]+):", light, re.MULTILINE)) == {name for name in PROPERTIES if "color" in name}


def test_the_page_evaluates_no_text() -> None:
    script = files("devstack.devhub").joinpath("portal/portal.js").read_text()
    assert not re.search(r"\beval\b|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write", script)
