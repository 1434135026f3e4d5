from __future__ import annotations

from pathlib import Path

import pytest

from devstack.environment import PROXIES
from devstack.errors import StackError
from devstack.settings import Settings


def test_children_see_nothing_that_would_change_what_they_do() -> None:
    environ = {
        "PATH": "/bin",
        "KUBECONFIG": "/mine",
        "GITHUB_TOKEN": "ghp_x",
        "NATS_URL": "nats://mine",
        "OTEL_SDK_DISABLED": "1",
    }
    assert dict(Settings.from_environ(environ).environment) == {"PATH": "/bin", "OTEL_SDK_DISABLED": "1"}


def test_children_reach_hosts_outside_as_the_shell_does() -> None:
    environ = dict.fromkeys([*PROXIES, "SSL_CERT_DIR"], "x")
    assert dict(Settings.from_environ(environ).environment) == environ


def test_github_is_used_only_with_token_and_owner() -> None:
    assert Settings.from_environ({"GITHUB_TOKEN": "ghp_x"}).github_token is None
    both = Settings.from_environ({"GITHUB_TOKEN": "ghp_x", "GITHUB_OWNER": "octo"})
    assert (both.github_token, both.github_owner) == ("ghp_x", "octo")
    assert "ghp_x" not in repr(both)
    with pytest.raises(StackError, match="GITHUB_TOKEN is not"):
        Settings.from_environ({"GITHUB_OWNER": "octo"})


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no such file"):
        Settings.from_environ({"CODE_DEV_KUBECONFIG": str(tmp_path / "none")})
