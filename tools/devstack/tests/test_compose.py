"""What the containers of docker-compose.yaml find at their start. `make test-container` runs them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pytest
from cryptography import x509

from devstack import compose
from devstack.githubsim import state_file
from devstack.static_users import TOKEN_FILE, static_users

APP = {
    "GITHUB_OAUTH_CLIENT_ID": "Ov23lidevelopment",
    "GITHUB_OAUTH_CLIENT_SECRET": "of-the-simulator",
    "GITHUB_OAUTH_REDIRECT_URL": "https://127.0.0.1:8443/services/providers/code/oauth/github/callback",
}


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    for name, value in APP.items():
        monkeypatch.setenv(name, value)
    return argparse.Namespace(control_plane=tmp_path, github_state=tmp_path / "state.json")


def test_kcp_finds_its_users_and_a_certificate_for_the_name_of_its_container(arguments: argparse.Namespace) -> None:
    assert compose.prepare(arguments) == 0
    folder: Path = arguments.control_plane
    assert static_users()[0].token in (folder / TOKEN_FILE).read_text()
    certificate = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "kcp" in names.get_values_for_type(x509.DNSName)
    assert (folder / "tls.key").stat().st_mode & 0o077 == 0


def test_the_simulator_knows_the_app_that_the_gateway_connects_with(arguments: argparse.Namespace) -> None:
    compose.prepare(arguments)
    app = state_file.load(arguments.github_state, time.time).oauth_apps[APP["GITHUB_OAUTH_CLIENT_ID"]]
    assert app.client_secret == APP["GITHUB_OAUTH_CLIENT_SECRET"]
    assert app.callback_url == APP["GITHUB_OAUTH_REDIRECT_URL"]
    assert app.asks


def test_a_second_start_keeps_what_the_simulator_had(arguments: argparse.Namespace) -> None:
    arguments.github_state.write_text("of an earlier start")
    compose.prepare(arguments)
    assert arguments.github_state.read_text() == "of an earlier start"
