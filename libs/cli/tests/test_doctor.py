"""``code-provider doctor``: all green on a provider that is complete, and one sentence for each thing that is broken."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from code_provider import __main__ as command
from code_provider import doctor, doctor_checks
from code_provider.apiexport import EXPORTS, PERMISSION_CLAIMS, SLICES, exported_resources
from code_provider.apiresourceschemas import SCHEMAS, read_schemas
from code_provider.catalogentry import CATALOG_ENTRIES
from code_provider.doctor import findings
from code_provider.doctor_checks import Doubtful, Installation, Problem, checks
from code_provider.doctor_settings import DoctorSettings
from codecommon.kcp.endpoints import EXPORT_NAME
from codecommon.messaging.bus import EVENTS_STREAM, LOCKS, Bus
from codecommon.process.service import CannotRun
from codecommon.process.settings import NatsSettings
from devstack.nats import NatsServer
from devstack.ports import free_ports

NAMES = [schema["metadata"]["name"] for schema in read_schemas(DoctorSettings.from_environ({}).schemas_dir)]
TOKEN = "of-the-provider-0123456789"


@dataclass
class World:
    """kcp, the hub, the gateway and a git host, all at one address; ``answers``: path → status and body."""

    environ: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    date: str | None = None

    async def handle(self, request: web.Request) -> web.Response:
        status, body = self.answers.get(
            request.path, (404, {"kind": "Status", "reason": "NotFound", "details": {"name": "x"}})
        )
        headers = {} if self.date is None else {"Date": self.date}
        return web.json_response(body, status=status, headers=headers)

    def object(self, path: str) -> Any:
        return self.answers[path][1]

    async def examine(self) -> dict[str, Any]:
        settings = DoctorSettings.from_environ(self.environ)
        async with Installation(settings) as installation:
            return {finding.check: finding async for finding in findings(checks(installation))}


@pytest_asyncio.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    made = World()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    at = f"http://127.0.0.1:{runner.addresses[0][1]}"
    monkeypatch.setattr(doctor_checks, "_GITHUB_API", at)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "k", "cluster": {"server": at}}],
                "users": [{"name": "k", "user": {"token": TOKEN}}],
                "contexts": [{"name": "k", "context": {"cluster": "k", "user": "k"}}],
                "current-context": "k",
            }
        )
    )
    endpoint = {"url": f"{at}/services/apiexport/p/e"}
    export = {"resources": exported_resources(NAMES), "permissionClaims": [dict(c) for c in PERMISSION_CLAIMS]}
    made.answers = {
        EXPORTS.path(): (200, {"items": []}),
        EXPORTS.path(EXPORT_NAME): (200, {"spec": export, "status": {"conditions": []}}),
        SLICES.path(EXPORT_NAME): (
            200,
            {"spec": {"export": {"path": "root:kedge:providers:code"}}, "status": {"endpoints": [endpoint]}},
        ),
        **{SCHEMAS.path(name): (200, {}) for name in NAMES},
        "/services/apiexport/p/e/clusters/*/apis/code.kedge.faros.sh/v1alpha1/connections": (200, {"items": []}),
        CATALOG_ENTRIES.path("code"): (200, {"spec": {"backend": {"url": at}}}),
        "/healthz": (200, {"status": "ok"}),
        "/api/providers": (200, {"items": [{"name": "code", "ready": True}]}),
        "/services/providers/code/oauth/github/config": (200, {"enabled": True}),
    }
    made.environ = {
        "KEDGE_PROVIDER_KUBECONFIG": str(kubeconfig),
        "KEDGE_HUB_URL": at,
        "CODE_ALLOWED_GIT_HOSTS": at,
        "GITHUB_OAUTH_CLIENT_ID": "id",
        "GITHUB_OAUTH_CLIENT_SECRET": "secret-of-the-app-0123456789",
        "GITHUB_OAUTH_REDIRECT_URL": f"{at}/services/providers/code/oauth/github/callback",
    }
    yield made
    await runner.cleanup()


@pytest_asyncio.fixture(name="nats_server")
async def _nats_server(tmp_path: Path, world: World) -> AsyncIterator[NatsServer]:
    async with NatsServer(tmp_path / "nats") as running:
        await running.declare()
        world.environ |= running.environment
        yield running


@pytest.mark.nats
async def test_a_complete_provider_is_all_green(world: World, nats_server: NatsServer) -> None:
    found = await world.examine()
    assert {name: f.status for name, f in found.items()} == dict.fromkeys(found, "ok"), [f.line for f in found.values()]
    assert not [f.line for f in found.values() if TOKEN in f.line or "secret-of-the-app" in f.line]


def gone(path: str) -> Callable[[World], None]:
    return lambda world: world.answers.pop(path) and None


def answering(path: str, status: int, body: Any = None) -> Callable[[World], None]:
    return lambda world: world.answers.__setitem__(path, (status, body or {}))


def without_claim(world: World) -> None:
    world.object(EXPORTS.path(EXPORT_NAME))["spec"]["permissionClaims"] = [{"resource": "secrets", "verbs": ["get"]}]


def older_schema(world: World) -> None:
    world.object(EXPORTS.path(EXPORT_NAME))["spec"]["resources"][0]["schema"] = "v1.connections.code.kedge.faros.sh"


def unsound(world: World) -> None:
    conditions = world.object(EXPORTS.path(EXPORT_NAME))["status"]["conditions"]
    conditions.append({"type": "IdentityValid", "status": "False"})


def elsewhere(world: World) -> None:
    world.environ["CODE_WORKSPACE_PATH"] = "root:other"


def variable(name: str, value: str) -> Callable[[World], None]:
    return lambda world: world.environ.__setitem__(name, value)


def clock_off(world: World) -> None:
    world.date = "Mon, 01 Jan 2024 00:00:00 GMT"


NOWHERE = f"http://127.0.0.1:{free_ports(1)[0]}"
VIRTUAL = "/services/apiexport/p/e/clusters/*/apis/code.kedge.faros.sh/v1alpha1/connections"
CONFIG = "/services/providers/code/oauth/github/config"

BROKEN = [
    (
        "kubeconfig",
        variable("KEDGE_PROVIDER_KUBECONFIG", "/nowhere"),
        "there is no file /nowhere",
        "KEDGE_PROVIDER_KUBECONFIG",
    ),
    ("kcp", answering(EXPORTS.path(), 401), "kcp answers 401 to listing APIExports", "make a new kubeconfig"),
    ("kcp", answering(EXPORTS.path(), 404), "kcp answers 404 to listing APIExports", "names the provider's workspace"),
    ("schemas", gone(SCHEMAS.path(NAMES[0])), f"there is no APIResourceSchema {NAMES[0]}", "run code-provider init"),
    ("schemas", variable("KEDGE_SCHEMAS_DIR", "/nowhere"), "there are no schemas in /nowhere", "KEDGE_SCHEMAS_DIR"),
    ("export", gone(EXPORTS.path(EXPORT_NAME)), f"there is no APIExport {EXPORT_NAME}", "run code-provider init"),
    ("export", older_schema, "the APIExport serves another schema of", "run code-provider init"),
    ("export", unsound, "the APIExport says IdentityValid=False", "run code-provider init"),
    (
        "claim",
        without_claim,
        "does not claim secrets: create, delete, list, patch, update, watch",
        "run code-provider init",
    ),
    (
        "virtual workspace",
        gone(SLICES.path(EXPORT_NAME)),
        "there is no APIExportEndpointSlice",
        "run code-provider init",
    ),
    ("virtual workspace", elsewhere, "is of root:kedge:providers:code", "CODE_WORKSPACE_PATH"),
    ("virtual workspace", answering(VIRTUAL, 403), "kcp answers 403 to listing Connections", "make a new kubeconfig"),
    ("hub", variable("KEDGE_HUB_URL", NOWHERE), "cannot be reached: ConnectError", "correct KEDGE_HUB_URL"),
    ("hub", answering("/api/providers", 502), "answers 502", "correct KEDGE_HUB_URL"),
    (
        "hub",
        answering("/api/providers", 200, {"items": []}),
        "does not list a provider code",
        "KEDGE_CATALOGENTRY_FILE",
    ),
    (
        "hub",
        answering("/api/providers", 200, {"items": [{"name": "code", "ready": False}]}),
        "not ready",
        "start the gateway",
    ),
    ("backend", answering(CATALOG_ENTRIES.path("code"), 200, {"spec": {}}), "names no backend", "spec.backend.url"),
    (
        "backend",
        answering(CATALOG_ENTRIES.path("code"), 200, {"spec": {"backend": {"url": NOWHERE}}}),
        "cannot be reached: ConnectError",
        "start the gateway",
    ),
    ("backend", answering("/healthz", 503), "answers 503", "see the gateway's log"),
    ("oauth redirect", gone(CONFIG), "is not the gateway's (404)", "set GITHUB_OAUTH_REDIRECT_URL"),
    (
        "oauth redirect",
        answering(CONFIG, 200, {"enabled": False}),
        "is not the gateway's (200)",
        "GITHUB_OAUTH_REDIRECT_URL",
    ),
    (
        "oauth redirect",
        variable("GITHUB_OAUTH_CLIENT_ID", ""),
        "Connect with GitHub is off",
        "GITHUB_OAUTH_CLIENT_ID not set",
    ),
    ("clock", clock_off, "this machine and kcp differ by", "let NTP set the clocks"),
    ("git hosts", variable("CODE_ALLOWED_GIT_HOSTS", NOWHERE), f"cannot reach {NOWHERE} (ConnectError)", "HTTPS_PROXY"),
]


@pytest.mark.parametrize(("check", "break_it", "said", "fix"), BROKEN, ids=range(len(BROKEN)))
async def test_what_is_broken_is_one_sentence_with_its_fix(
    world: World, check: str, break_it: Callable[[World], None], said: str, fix: str
) -> None:
    break_it(world)
    finding = (await world.examine())[check]
    assert finding.status == "failed"
    assert said in finding.message
    assert fix in finding.fix
    assert "\n" not in finding.line


async def no_server(world: World, server: NatsServer) -> None:
    await server.stop()


async def strange_key(world: World, server: NatsServer) -> None:
    seed = bytearray((server.keys / "doctor.nk").read_bytes())
    # In the middle: the last characters are mostly a checksum, which the library does not look at.
    seed[20] = ord("A" if seed[20] != ord("A") else "B")
    (server.keys / "doctor.nk").write_bytes(seed)


async def no_key(world: World, server: NatsServer) -> None:
    (server.keys / "doctor.nk").write_text("not a key")


async def no_stream(world: World, server: NatsServer) -> None:
    async with Bus.connect(NatsSettings(url=(server.url,))) as admin:
        await admin.js.delete_stream(EVENTS_STREAM)
        await admin.js.delete_key_value(LOCKS)


async def older_durable(world: World, server: NatsServer) -> None:
    async with Bus.connect(NatsSettings(url=(server.url,))) as admin:
        config = (await admin.js.consumer_info(EVENTS_STREAM, "access-svc")).config
        await admin.js.add_consumer(EVENTS_STREAM, config.evolve(filter_subjects=["code.events.deploykeys.>"]))


async def one_user_for_all(world: World, server: NatsServer) -> None:
    world.environ.pop("NATS_NKEY")
    world.environ |= {"NATS_USER": "admin", "NATS_PASSWORD": "admin"}


@pytest.mark.nats
@pytest.mark.parametrize(
    ("check", "break_it", "said", "fix"),
    [
        ("nats", no_server, "NATS does not answer at NATS_URL", "see that a nats-server runs there"),
        ("nats", strange_key, "NATS refuses the credentials", "doctor.nk"),
        ("nats", no_key, "holds no seed of an nkey", "doctor.nk"),
        ("streams", no_stream, "NATS has no stream CODE_EVENTS, no bucket CODE_LOCKS", "run code-provider init"),
        ("streams", older_durable, "the durable access-svc is that of another version", "run code-provider init"),
    ],
)
async def test_what_is_broken_in_nats_is_one_sentence_with_its_fix(
    world: World,
    nats_server: NatsServer,
    check: str,
    break_it: Callable[[World, NatsServer], Awaitable[None]],
    said: str,
    fix: str,
) -> None:
    await break_it(world, nats_server)
    finding = (await world.examine())[check]
    assert finding.status == "failed"
    assert said in finding.message
    assert fix in finding.fix


async def without_users(world: World, server: NatsServer) -> None:
    """As the NATS for trying out is."""
    await restart_with(server, authorization=None)
    world.environ.pop("NATS_NKEY")


async def restart_with(server: NatsServer, **settings: Any) -> None:
    """``settings``: of the configuration. ``authorization``: no accounts, and so no users."""
    await server.process.stop()
    file = server.folder / "nats-server.json"
    config = json.loads(file.read_text()) | settings
    if "authorization" in settings:
        del config["authorization"], config["accounts"]
    file.write_text(json.dumps(config))
    await server.process.start()


@pytest.mark.nats
@pytest.mark.parametrize(
    ("make_it", "said"),
    [
        (one_user_for_all, "the doctor's user may do everything"),
        (without_users, "NATS lets in whoever has no credentials"),
    ],
)
async def test_users_of_nats_that_a_documented_layout_does_without_are_a_warning(
    world: World, nats_server: NatsServer, make_it: Callable[[World, NatsServer], Awaitable[None]], said: str
) -> None:
    await make_it(world, nats_server)
    finding = (await world.examine())["nats permissions"]
    assert finding.status == "warning"
    assert said in finding.message
    assert "code-provider nats-auth" in finding.fix
    assert finding.line.startswith("warning  nats permissions: ")


@pytest.mark.nats
async def test_a_nats_that_does_not_answer_is_not_said_to_refuse(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_checks, "_NATS_SECONDS", 0.2)
    async with Bus.connect(NatsSettings(url=(nats_server.url,)), "") as bus:
        # Somebody takes the question and never answers it.
        monkeypatch.setattr(doctor_checks, "_DELETION", "code.nobody.answers")
        await bus.nc.subscribe("code.nobody.answers")
        with pytest.raises(Problem, match="gives no answer"):
            await doctor_checks._may_delete(bus)


async def test_a_server_that_lets_a_stranger_wait_does_not_let_it_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that asks for a certificate: the client tries for ever."""
    monkeypatch.setattr(doctor_checks, "_NATS_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        async with asyncio.timeout(20):
            assert not await doctor_checks._lets_in_strangers(NatsSettings(url=(url,)))


async def test_a_stranger_has_the_certificate_that_the_server_may_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(settings: NatsSettings) -> None:
        assert settings == given.model_copy(update={"nkey": None, "user": None, "password": None})
        raise CannotRun("refused")

    for name in ("ca", "cert", "key", "nkey"):
        (tmp_path / name).touch()
    given = NatsSettings(ca=tmp_path / "ca", cert=tmp_path / "cert", key=tmp_path / "key", nkey=tmp_path / "nkey")
    monkeypatch.setattr(doctor_checks.Bus, "connect", connect)
    assert not await doctor_checks._lets_in_strangers(given)


async def test_only_failures_are_an_exit_code(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def doubts() -> str:
        raise Doubtful("one", "two")

    lines: list[str] = []
    monkeypatch.setattr(doctor, "checks", lambda _: [("a", doubts)])
    settings = DoctorSettings.from_environ(world.environ)
    assert await doctor._examine(settings, lambda finding: lines.append(finding.line)) == 0
    assert lines == ["warning  a: one; fix: two"]


@pytest.mark.parametrize(("hosts", "status"), [(True, "warning"), (False, "failed")])
async def test_github_is_looked_at_whatever_other_hosts_are_allowed(
    world: World, monkeypatch: pytest.MonkeyPatch, hosts: bool, status: str
) -> None:
    monkeypatch.setattr(doctor_checks, "_GITHUB_API", NOWHERE)
    if not hosts:
        del world.environ["CODE_ALLOWED_GIT_HOSTS"]
    finding = (await world.examine())["git hosts"]
    assert finding.status == status
    assert f"cannot reach {NOWHERE} (ConnectError)" in finding.message


async def test_a_check_that_hangs_or_breaks_is_a_line_and_the_others_go_on() -> None:
    async def hangs() -> str:
        await asyncio.Event().wait()
        return ""

    async def breaks() -> str:
        raise ZeroDivisionError("with a detail")

    async def tells() -> str:
        raise Problem("one\ntwo ghp_0123456789012345678901234567890123456789", "three")

    found = [f.line async for f in findings([("a", hangs), ("b", breaks), ("c", tells)], 0.01)]
    assert found[0].startswith("FAILED   a: no answer within 0.01 s; fix: ")
    assert found[1].startswith("FAILED   b: ended with ZeroDivisionError; fix: ")
    assert found[2].startswith("FAILED   c: one two ")
    assert "ghp_" not in found[2]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_wrong_setting_is_one_line_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    monkeypatch.setenv("CODE_RESYNC_INTERVAL", "soon")
    assert command.main(["doctor", *(["--json"] if as_json else [])]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    if as_json:
        told = json.loads(line)
        assert (told["check"], told["status"], told["fix"]) == ("settings", "failed", "correct CODE_RESYNC_INTERVAL")
    else:
        assert line.startswith("FAILED   settings: CODE_RESYNC_INTERVAL: ")
