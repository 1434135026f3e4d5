"""The command line of code-provider, and the environment of init."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from code_provider import __main__ as command
from code_provider.apiresourceschemas import read_schemas
from code_provider.init_settings import InitSettings
from codecommon.api.kinds import KINDS
from codecommon.messaging.bus import Bus
from codecommon.messaging.topology import DOCTOR, USERS
from devstack.nats import NatsServer


def settings(environ: dict[str, str], default_schemas_dir: Path = Path("/nonexistent")) -> InitSettings:
    return InitSettings.from_environ(environ, default_schemas_dir=default_schemas_dir)


@pytest.mark.parametrize("arguments", [["bootstrap"], ["init", "now"], ["--version"]])
def test_an_unknown_subcommand_prints_the_usage_and_exits_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: code-provider [serve|init|nats-auth|doctor|rollback|SERVICE]")


def test_a_kubeconfig_path_that_is_wrong_is_one_line_and_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("KEDGE_PROVIDER_KUBECONFIG", str(tmp_path / "missing"))
    assert command.main(["init"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("init: ")
    assert str(tmp_path / "missing") in line


def test_a_catalog_entry_that_cannot_be_read_stops_init_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "entry.yaml"
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"}}))
    monkeypatch.setenv("KEDGE_CATALOGENTRY_FILE", str(path))
    monkeypatch.setenv("KEDGE_PROVIDER_KUBECONFIG", str(tmp_path / "missing"))
    assert command.main(["init"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"init: {path} is not of kind CatalogEntry in providers.kedge.faros.sh/v1alpha1"


@pytest.mark.nats
async def test_what_the_services_keep_in_nats_is_declared_though_kcp_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As it does a CatalogEntry. The services would wait for ever."""
    async with NatsServer(tmp_path / "nats") as server:
        for name, value in {**server.environment, "KEDGE_PROVIDER_KUBECONFIG": str(tmp_path / "missing")}.items():
            monkeypatch.setenv(name, value)

        assert await asyncio.to_thread(command.main, ["init"]) == 1

        assert str(tmp_path / "missing") in capsys.readouterr().err
        async with Bus.connect(server.settings(), DOCTOR) as bus:
            assert await bus.lacks(USERS[DOCTOR]) == []


def test_an_error_of_kcp_does_not_hide_the_one_of_nats(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "init.nk").write_text("not a key")
    monkeypatch.setenv("KEDGE_PROVIDER_KUBECONFIG", str(tmp_path / "missing"))
    monkeypatch.setenv("NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setenv("NATS_NKEY", str(tmp_path))
    assert command.main(["init"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds no seed of an nkey" in line
    assert str(tmp_path / "missing") in line


def test_the_first_kubeconfig_variable_that_is_set_wins_even_if_a_later_one_would_work(tmp_path: Path) -> None:
    (tmp_path / "good").touch()
    good, bad = str(tmp_path / "good"), str(tmp_path / "bad")
    assert settings({"KUBECONFIG": good}).kubeconfig == Path(good)
    assert settings({"CODE_KUBECONFIG": bad, "KUBECONFIG": good}).kubeconfig == Path(bad)
    both = {"KEDGE_PROVIDER_KUBECONFIG": bad, "CODE_KUBECONFIG": good, "KUBECONFIG": good}
    assert settings(both).kubeconfig == Path(bad)
    assert settings({"KEDGE_PROVIDER_KUBECONFIG": "", "KUBECONFIG": good}).kubeconfig == Path(good)
    assert settings({}).kubeconfig is None


def test_the_workspace_is_the_one_the_hub_makes_unless_the_environment_says_otherwise() -> None:
    assert settings({}).workspace_path == "root:kedge:providers:code"
    assert settings({"CODE_WORKSPACE_PATH": "root:mine"}).workspace_path == "root:mine"


def test_no_catalog_entry_is_registered_unless_a_file_is_named() -> None:
    assert settings({}).catalog_entry is None
    assert settings({"KEDGE_CATALOGENTRY_FILE": "/entry.yaml"}).catalog_entry == Path("/entry.yaml")


def test_a_schema_folder_in_the_environment_is_used_even_if_it_is_missing(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert settings({"KEDGE_SCHEMAS_DIR": str(missing)}, tmp_path).schemas_dir == missing


def test_the_schemas_of_an_image_come_before_those_of_the_distribution(tmp_path: Path) -> None:
    assert settings({}, tmp_path).schemas_dir == tmp_path


def test_without_a_schema_folder_the_distribution_brings_every_kind() -> None:
    schemas = read_schemas(settings({}).schemas_dir)
    assert {schema["spec"]["names"]["plural"] for schema in schemas} == KINDS.keys()
