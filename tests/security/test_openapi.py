"""The gateway answers every request to its documented routes as its own OpenAPI document says."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings

from codecommon.process.health import Readiness
from codecommon.process.secrets import SecretValue
from codecommon.process.settings import NatsSettings
from gateway.http_protocol import BoundedHttp
from gateway.http_settings import HttpSettings
from gateway.oauth.exchange import Grant
from gateway.oauth.routes import ConnectWithGitHub
from gateway.routes import build_app
from gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from schemathesis import Case

FULL = os.environ.get("CODE_SECURITY_TESTS") == "full"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800 if FULL else 120)]
FUZZED = settings(
    max_examples=1000 if FULL else 25,
    derandomize=not FULL,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
# To send the browser on is to take what it said. 404 is the answer while Connect with GitHub is off.
CONFIG = {"checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", 302, 404]}}}
PAGES = ("config", "start", "callback")
OAUTH = {
    "GITHUB_OAUTH_CLIENT_ID": "id",
    "GITHUB_OAUTH_CLIENT_SECRET": "a-secret",
    "GITHUB_OAUTH_REDIRECT_URL": "https://hub.example/services/providers/code/oauth/github/callback",
}


class Flows:
    """In place of those in NATS."""

    def __init__(self) -> None:
        self._begun = set[str]()

    async def begin(self, flow_id: str) -> None:
        self._begun.add(flow_id)

    async def take(self, flow_id: str) -> bool:
        found = flow_id in self._begun
        self._begun.discard(flow_id)
        return found


class Host:
    """In place of GitHub: it likes every code."""

    async def exchange(self, form: Mapping[str, str]) -> Grant:
        return Grant(SecretValue("gho_token"), "alice", "repo")


def app(folder: Path, **oauth: str) -> FastAPI:
    connect = ConnectWithGitHub(GatewaySettings.load(oauth).oauth, NatsSettings(), "gateway")
    assert connect.enabled is bool(oauth)
    connect._flows = Flows()  # type: ignore[assignment]
    connect._client = Host()  # type: ignore[assignment]
    readiness = Readiness()
    readiness.phase = "started"
    settings = HttpSettings(portal_folder=folder, caller_rate="1000000/second")  # type: ignore[arg-type]
    return build_app(readiness, settings=settings, routes=connect.routes())


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The URL of the app. It runs in a thread, because schemathesis blocks its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(
            uvicorn.Config(app, http=BoundedHttp, ws="none", lifespan="off", log_config=None, access_log=False)
        )
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def operations(app: FastAPI) -> dict[str, Any]:
    # Importing it takes a second. Each worker imports this module, and one of them runs its tests.
    import schemathesis
    from schemathesis.config import SchemathesisConfig

    schema = schemathesis.openapi.from_dict(app.openapi(), config=SchemathesisConfig.from_dict(CONFIG))
    return {(found := result.ok()).label: found for result in schema.get_all_operations()}


@pytest.mark.parametrize("oauth", [{}, OAUTH], ids=["Connect with GitHub is off", "it is on"])
def test_every_answer_is_as_documented(tmp_path: Path, oauth: dict[str, str]) -> None:
    from schemathesis.generation import GenerationMode

    gateway = app(tmp_path, **oauth)
    found = operations(gateway)
    assert {"GET /livez", "GET /readyz", *(f"GET /oauth/github/{name}" for name in PAGES)} == found.keys()
    with serving(gateway) as url, requests.Session() as session:
        for operation in found.values():
            # Of the others any request is valid.
            for mode in GenerationMode if operation.path.endswith("/start") else [GenerationMode.POSITIVE]:

                @FUZZED
                @given(case=operation.as_strategy(generation_mode=mode))
                def conforms(case: Case) -> None:
                    response = case.call_and_validate(base_url=url, session=session, allow_redirects=False)
                    is_off = not oauth and case.path.endswith(("/start", "/callback"))
                    assert (response.status_code == 404) is is_off

                conforms()


def test_every_end_of_a_sign_in_that_began_here_is_answered_as_documented(tmp_path: Path) -> None:
    from schemathesis.generation import GenerationMode

    gateway = app(tmp_path, **OAUTH)
    callback = operations(gateway)["GET /oauth/github/callback"]
    with serving(gateway) as url, requests.Session() as session:

        @FUZZED
        @given(case=callback.as_strategy(generation_mode=GenerationMode.POSITIVE))
        def conforms(case: Case) -> None:
            begun = session.get(f"{url}/oauth/github/start?state=x", allow_redirects=False)
            (flow,) = parse_qs(urlsplit(begun.headers["Location"]).query)["state"]
            case.query = {**(case.query or {}), "state": flow}
            # As the browser sends it; the session does not, because it is for TLS alone.
            cookie = {"Cookie": begun.headers["Set-Cookie"].partition(";")[0]}
            response = case.call_and_validate(base_url=url, session=session, headers=cookie, allow_redirects=False)
            assert response.status_code == 200
            assert "did not begin in this browser" not in response.text

        conforms()


def test_nobody_is_shown_the_document(tmp_path: Path) -> None:
    assert app(tmp_path).openapi_url is None
