from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
import yaml

from devstack.errors import StackError
from devstack.kubeconfig import kubeconfig, load_access, write_private


def test_a_minted_kubeconfig_is_read_back(tmp_path: Path) -> None:
    path = write_private(tmp_path / "provider.kubeconfig", kubeconfig("https://hub.test/clusters/abc", "secret"))
    access = load_access(path)
    assert (access.server, access.base, access.token) == ("https://hub.test/clusters/abc", "https://hub.test", "secret")
    assert access.tls is not None
    assert access.tls.verify_mode == ssl.CERT_NONE


def test_the_token_is_not_in_the_repr(tmp_path: Path) -> None:
    path = write_private(tmp_path / "k", kubeconfig("http://hub.test", "very-secret"))
    assert "very-secret" not in repr(load_access(path))


def test_a_private_file_is_private_also_when_it_replaces_another(tmp_path: Path) -> None:
    (tmp_path / "k").write_text("readable by all")
    assert stat.S_IMODE(write_private(tmp_path / "k", "x").stat().st_mode) == 0o600


def test_a_named_context_and_a_token_file_are_used(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    content = yaml.safe_load(kubeconfig("http://one.test", "inline"))
    content["clusters"].append({"name": "two", "cluster": {"server": "http://two.test/"}})
    content["users"].append({"name": "two", "user": {"tokenFile": "token"}})
    content["contexts"].append({"name": "two", "context": {"cluster": "two", "user": "two"}})
    (tmp_path / "k").write_text(yaml.safe_dump(content))
    access = load_access(tmp_path / "k", "two")
    assert (access.server, access.token, access.tls) == ("http://two.test", "from-file", None)


@pytest.mark.parametrize("content", ["", "- a list", "contexts: []\ncurrent-context: x", "{"])
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "broken").write_text(content)
    with pytest.raises(StackError, match="broken is not a kubeconfig"):
        load_access(tmp_path / "broken")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="nowhere: No such file"):
        load_access(tmp_path / "nowhere")
