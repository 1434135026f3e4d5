"""The development hub's page loads a provider's element as the hub's portal does (hub-contract.md §6.1)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hub_bed import ALICE, Bed, Received, answer, hub_bed

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

# Both elements note what happens to them in `seen`; `loads` counts how often the script ran.
MAIN = b"""
window.loads = (window.loads || 0) + 1;
window.seen = window.seen || [];
for (const tag of ["kedge-provider-code", "kedge-dashboard-tile-code"]) {
  if (customElements.get(tag)) continue;
  customElements.define(tag, class extends HTMLElement {
    connectedCallback() { this.number = window.made = (window.made || 0) + 1; seen.push({ tag, connected: true }); }
    set kedgeContext(context) { seen.push({ tag, element: this.number, frozen: Object.freeze(context) && true, context }); }
  });
}
"""
BOUND_SECONDS = 60.0
FRAME, TILE = "kedge-provider-code", "kedge-dashboard-tile-code"


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    """Two workspaces of Alice, with the provider enabled in both."""
    async with hub_bed(tmp_path) as made:
        organization = made.team.organization
        second = made.hub.tenancy.add_workspace(organization, "second", identifier="second-uuid", cluster="2second")
        made.hub.tenancy.join(ALICE, organization, second)
        made.register(version="1.2 beta")
        export = {"path": "root:kedge:providers:code"}
        binding = {
            "metadata": {"name": "code"},
            "spec": {"reference": {"export": export}},
            "status": {"phase": "Bound"},
        }
        bound = answer(json.dumps({"items": [binding]}).encode(), headers="Content-Type: application/json\r\n")
        made.kcp.respond = lambda received: bound
        made.provider.respond = lambda received: javascript(MAIN)
        yield made


def javascript(text: bytes) -> bytes:
    return answer(text, headers="Content-Type: text/javascript\r\n")


@pytest.fixture
async def page(browser: Browser, bed: Bed) -> AsyncIterator[Page]:
    context = await browser.new_context(ignore_https_errors=True, base_url=bed.hub.url)
    opened = await context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    yield opened
    await context.close()
    assert problems == []


async def log_in(page: Page, path: str) -> None:
    await page.goto(path)
    await page.get_by_label("Static token").fill(ALICE.token)
    await page.get_by_role("button", name="Log in").click()


async def contexts(page: Page, tag: str, count: int) -> list[dict[str, Any]]:
    """What has happened to the elements of `tag`, once they were given `count` contexts; the page forgets it then."""
    # Playwright's own waiting compiles a string, which the page's policy forbids.
    async with asyncio.timeout(BOUND_SECONDS):
        while (
            await page.evaluate(f"(window.seen || []).filter((it) => it.tag === '{tag}' && it.context).length") < count
        ):
            await asyncio.sleep(0.05)
    return [entry for entry in await page.evaluate("seen.splice(0)") if entry["tag"] == tag]


async def test_the_element_is_in_the_page_before_it_gets_its_context(page: Page, bed: Bed) -> None:
    await log_in(page, "/ui/providers/code/repositories/one")
    connected, given = await contexts(page, FRAME, 1)
    assert connected["connected"] is True
    assert given["context"] == {
        "subPath": "repositories/one",
        "token": ALICE.token,
        "user": {"email": ALICE.email, "userId": ALICE.name},
        "tenant": bed.team.cluster,
        "orgUUID": bed.team.organization.uuid,
        "workspaceUUID": bed.team.uuid,
        "theme": "system",
        "basePath": "/ui/providers/code",
    }
    script = page.locator("head > script#kedge-provider-script-code")
    assert await script.get_attribute("src") == "/ui/providers/code/main.js?v=1.2%20beta"
    assert await page.evaluate("document.querySelector('#kedge-provider-script-code').async")


async def test_another_theme_is_a_new_context_for_the_same_element(page: Page) -> None:
    await log_in(page, "/ui/providers/code/")
    (_, before) = await contexts(page, FRAME, 1)
    await page.get_by_label("Theme").select_option("light")
    (after,) = await contexts(page, FRAME, 1)
    assert (after["element"], after["context"]["theme"]) == (before["element"], "light")
    assert await page.locator("html.light").count() == 1
    await page.get_by_label("Theme").select_option("dark")
    assert await page.locator("html.light").count() == 0


async def test_another_workspace_is_a_new_element_without_loading_the_script_again(page: Page) -> None:
    await log_in(page, "/ui/providers/code/connections")
    (_, before) = await contexts(page, FRAME, 1)
    await page.get_by_label("Workspace").select_option("acme / second")
    (_, after) = await contexts(page, FRAME, 1)
    assert after["element"] != before["element"]
    assert (after["context"]["tenant"], after["context"]["workspaceUUID"]) == ("2second", "second-uuid")
    assert (await page.locator(FRAME).count(), await page.evaluate("loads")) == (1, 1)
    await page.reload()
    assert (await contexts(page, FRAME, 1))[1]["context"]["tenant"] == "2second"


async def test_what_fails_after_a_change_of_workspace_is_told(page: Page) -> None:
    await log_in(page, "/ui/providers/code/connections")
    await contexts(page, FRAME, 1)
    await page.route("**/api/providers", lambda route: route.fulfill(body="no JSON"))
    await page.get_by_label("Workspace").select_option("acme / second")
    await page.get_by_role("alert").get_by_text("JSON").wait_for()
    await page.unroute("**/api/providers")
    await page.get_by_label("Workspace").select_option("acme / team")
    await page.locator(FRAME).wait_for(state="attached")
    assert await page.get_by_role("alert").count() == 0


async def test_the_element_navigates_and_the_history_goes_back(page: Page) -> None:
    await log_in(page, "/ui/providers/code/connections")
    await contexts(page, FRAME, 1)
    await page.locator(FRAME).evaluate(
        "it => it.dispatchEvent(new CustomEvent('kedge-navigate', { bubbles: true, detail: { path: 'repositories/one' } }))"
    )
    (given,) = await contexts(page, FRAME, 1)
    assert (given["context"]["subPath"], page.url.partition("/ui/")[2]) == (
        "repositories/one",
        "providers/code/repositories/one",
    )
    await page.go_back()
    (back,) = await contexts(page, FRAME, 1)
    assert back["context"]["subPath"] == "connections"


async def test_the_dashboards_tile_is_told_no_path_and_no_workspace(page: Page) -> None:
    await log_in(page, "/ui/")
    connected, given = await contexts(page, TILE, 1)
    assert connected["connected"] is True
    assert sorted(given["context"]) == ["basePath", "tenant", "theme", "token", "user"]


async def test_an_element_that_is_not_registered_within_five_seconds_is_told(page: Page, bed: Bed) -> None:
    bed.provider.respond = lambda received: javascript(b"window.loads = 1;")
    await page.clock.install(time=0)
    await page.clock.pause_at(1000)
    await log_in(page, "/ui/providers/code/")
    told = page.get_by_text("kedge-provider-code was not registered within 5 s.")
    async with asyncio.timeout(BOUND_SECONDS):
        while await page.evaluate("window.loads") != 1:
            await asyncio.sleep(0.05)
    passed = 0
    while await told.count() == 0:
        await page.clock.run_for(250)
        passed += 250
        assert passed < 60_000
    assert passed >= 5000


async def test_a_provider_without_a_tile_has_a_link_there(page: Page, bed: Bed) -> None:
    def only_the_frame(received: Received) -> bytes:
        return javascript(MAIN.replace(b', "kedge-dashboard-tile-code"', b""))

    bed.provider.respond = only_the_frame
    await log_in(page, "/ui/")
    await page.get_by_role("link", name="Open Code").click()
    assert (await contexts(page, FRAME, 1))[-1]["context"]["subPath"] == ""
