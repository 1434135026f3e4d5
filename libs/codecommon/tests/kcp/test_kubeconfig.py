"""The provider's kubeconfig as a file that appears late, is rotated and may be broken for a moment."""

from __future__ import annotations

import asyncio
import base64
import logging
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml

from codecommon.kcp import identity as identity_module
from codecommon.kcp import kubeconfig as kubeconfig_module
from codecommon.kcp.identity import ProviderIdentity
from codecommon.kcp.kubeconfig import KubeconfigError, load
from codecommon.process.settings import kubeconfig_path


def content(server: str = "https://kcp.example:6443/clusters/p1", token: str = "first") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
    }


def write(path: Path, text: Any) -> None:
    """As a Secret volume does it: the new file takes the old one's place."""
    new = path.with_suffix(".new")
    new.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    new.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kubeconfig"


@pytest.fixture
async def provider(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProviderIdentity]:
    monkeypatch.setattr(identity_module, "_CHECK_INTERVAL_SECONDS", 0.01)
    async with ProviderIdentity(path) as opened:
        yield opened


async def test_server_and_token_come_from_the_file(path: Path, provider: ProviderIdentity) -> None:
    write(path, content("https://kcp.example:6443/clusters/p1/"))
    current = await provider.session()
    assert current.server.url == "https://kcp.example:6443/clusters/p1"
    assert await current.authorization() == "Bearer first"


async def test_an_unchanged_file_is_loaded_once(path: Path, provider: ProviderIdentity) -> None:
    write(path, content())
    first = await provider.session()
    await asyncio.sleep(0.02)
    assert await provider.session() is first


async def test_a_rotated_file_is_loaded_anew(path: Path, provider: ProviderIdentity) -> None:
    write(path, content())
    first = await provider.session()
    write(path, content(token="second"))
    await asyncio.sleep(0.02)
    current = await provider.session()
    assert await current.authorization() == "Bearer second"
    # Requests that began with it may still be under way.
    assert not first.closed
    await provider.__aexit__()
    assert first.closed


async def test_a_token_file_that_is_rotated_is_read_anew(path: Path, provider: ProviderIdentity) -> None:
    write(path.parent / "token", "first\n")
    by_file = content()
    by_file["users"] = [{"name": "u", "user": {"tokenFile": "token"}}]
    write(path, by_file)
    await provider.session()
    write(path.parent / "token", "second\n")
    await asyncio.sleep(0.02)
    assert await (await provider.session()).authorization() == "Bearer second"


async def test_what_the_file_holds_inline_is_not_left_on_disk(
    path: Path, provider: ProviderIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = path.parent / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with_authority = content()
    authority = base64.b64encode(Path(certifi.where()).read_bytes()).decode()
    with_authority["clusters"][0]["cluster"]["certificate-authority-data"] = authority
    for token in ("first", "second"):
        with_authority["users"] = [{"name": "u", "user": {"token": token}}]
        write(path, with_authority)
        await asyncio.sleep(0.02)
        assert await (await provider.session()).authorization() == f"Bearer {token}"
        assert list(folder.iterdir()) == []


async def test_a_request_under_way_outlives_a_rotation_for_others(path: Path, provider: ProviderIdentity) -> None:
    """Several users at once get the same new provider."""
    write(path, content())
    await provider.session()
    write(path, content(token="second"))
    await asyncio.sleep(0.02)
    found = await asyncio.gather(*(provider.session() for _ in range(5)))
    assert len({id(each) for each in found}) == 1


@pytest.mark.parametrize("broken", ["", "[", "just text", "{}", "users: [token: hunter2"])
async def test_a_file_that_breaks_keeps_the_last_good_one_until_it_is_whole_again(
    path: Path, provider: ProviderIdentity, broken: str
) -> None:
    write(path, content())
    first = await provider.session()
    write(path, broken)
    await asyncio.sleep(0.02)
    assert await provider.session() is first
    write(path, content(token="second"))
    await asyncio.sleep(0.02)
    assert await (await provider.session()).authorization() == "Bearer second"


async def test_a_file_that_stays_broken_is_reported_once(
    path: Path, provider: ProviderIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, content())
    await provider.session()
    write(path, "[")
    for _ in range(5):
        await asyncio.sleep(0.02)
        await provider.session()
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


@pytest.mark.parametrize("broken", ["[", "just text", "{}", "users: [token: hunter2", "\x00hunter2"])
async def test_a_file_that_never_was_good_is_named_and_not_quoted(
    path: Path, provider: ProviderIdentity, broken: str
) -> None:
    write(path, broken)
    with pytest.raises(KubeconfigError) as refused:
        await provider.session()
    assert str(path) in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


async def test_a_certificate_that_is_none_is_named(path: Path, provider: ProviderIdentity) -> None:
    broken = content()
    broken["clusters"][0]["cluster"]["certificate-authority-data"] = "bm8gY2VydGlmaWNhdGU="
    write(path, broken)
    with pytest.raises(KubeconfigError, match=str(path)):
        await provider.session()


async def test_a_missing_file_is_waited_for(
    path: Path, provider: ProviderIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(provider.wait())
        while "waiting for the kubeconfig" not in caplog.text:
            await asyncio.sleep(0.01)
        assert not waiting.done()
        write(path, content())
    assert (await provider.session()).server.url.endswith("/clusters/p1")
    assert caplog.text.count("waiting for the kubeconfig") == 1


async def test_without_a_file_and_outside_of_a_pod_it_says_which_variable_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kubeconfig_module, "_SERVICE_ACCOUNT_TOKEN", Path("/nowhere"))
    async with ProviderIdentity(None) as provider:
        with pytest.raises(KubeconfigError, match="KEDGE_PROVIDER_KUBECONFIG"):
            await provider.session()


def test_the_first_variable_that_is_set_wins() -> None:
    variables = {"KUBECONFIG": "/c", "CODE_KUBECONFIG": "/b", "KEDGE_PROVIDER_KUBECONFIG": "/a"}
    assert kubeconfig_path(variables) == Path("/a")
    assert kubeconfig_path({**variables, "KEDGE_PROVIDER_KUBECONFIG": ""}) == Path("/b")
    assert kubeconfig_path({"KUBECONFIG": "/c"}) == Path("/c")
    assert kubeconfig_path({}) is None


async def test_a_path_that_cannot_be_looked_at_is_waited_for_like_one_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="cannot read"):
        await load(tmp_path / ("x" * 300))
