"""Whose credentials a request carries and which certificate it accepts, against a TLS server on the loopback interface."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from codecommon.controller.connections import Connections
from codecommon.kcp.client import CallerKcp, ProviderKcp
from codecommon.kcp.identity import CallerConnections, CallerIdentity, ProviderIdentity
from codecommon.kcp.kubeconfig import ApiServer
from codecommon.messaging.events import Versions
from codecommon.process.secrets import SecretValue
from codecommon.testing.builders import connection_object, parse_connection

SERVER_NAME = "kcp.internal"
PROVIDER_TOKEN = "provider-token"
LARGE = 16 << 20
"""More than the buffers of a socket take."""
CALLER = SecretValue("caller-token")


def self_signed(folder: Path, name: str) -> Path:
    """A PEM file with a key and a certificate for the DNS name ``name``, which is an authority for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@dataclass
class Asked:
    """One request as it arrived. ``client`` is the common name of the client certificate, ``port`` the client's."""

    path: str
    authorization: str | None
    client: str | None
    port: int
    cookie: str | None


@dataclass
class Server:
    """An API server that is called ``kcp.internal`` in its certificate and asks for, but does not need, a client certificate."""

    folder: Path
    port: int = 0
    asked: list[Asked] = field(default_factory=list)

    @property
    def root(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def handle(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        certificate = request.transport.get_extra_info("peercert")
        names = dict(pair for part in (certificate or {}).get("subject", ()) for pair in part)
        port = request.transport.get_extra_info("peername")[1]
        headers = request.headers
        self.asked.append(
            Asked(request.path, headers.get("Authorization"), names.get("commonName"), port, headers.get("Cookie"))
        )
        response = web.json_response({"path": request.path, "text": "x" * (LARGE if request.path == "/large" else 0)})
        response.set_cookie("session", str(headers.get("Authorization")).replace(" ", "-"))
        return response

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        certificate, client = self_signed(self.folder, SERVER_NAME), self_signed(self.folder, "provider")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.load_verify_locations(client)
        context.verify_mode = ssl.CERT_OPTIONAL
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = runner.addresses[0][1]
        try:
            yield
        finally:
            await runner.cleanup()

    def kubeconfig(self, **cluster: Any) -> Path:
        """One with a client certificate and a token, whose server is the logical cluster ``p1``."""
        client = str(self.folder / "provider.pem")
        user = {"client-certificate": client, "client-key": client, "token": PROVIDER_TOKEN}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"{self.root}/clusters/p1", **cluster}}],
            "users": [{"name": "u", "user": user}],
        }
        path = self.folder / "kubeconfig"
        path.write_text(yaml.safe_dump(content))
        return path

    @property
    def verified(self) -> dict[str, str]:
        return {"certificate-authority": str(self.folder / f"{SERVER_NAME}.pem"), "tls-server-name": SERVER_NAME}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    made = Server(tmp_path)
    async with made.serving():
        yield made


@asynccontextmanager
async def provider_at(server: Server, **cluster: Any) -> AsyncIterator[ProviderIdentity]:
    async with ProviderIdentity(server.kubeconfig(**cluster)) as provider:
        yield provider


async def test_the_provider_shows_its_client_certificate_and_token(server: Server) -> None:
    async with provider_at(server, **server.verified) as provider:
        await ProviderKcp(provider).request("GET", "/api/v1/secrets")

    (asked,) = server.asked
    assert asked.path == "/clusters/p1/api/v1/secrets"
    assert (asked.authorization, asked.client) == (f"Bearer {PROVIDER_TOKEN}", "provider")


async def test_a_caller_shows_their_own_token_and_nothing_of_the_providers(server: Server) -> None:
    async with (
        provider_at(server, **server.verified) as provider,
        CallerIdentity(await provider.server(), CALLER) as caller,
    ):
        await ProviderKcp(provider).request("GET", "/api/v1/secrets")
        assert await CallerKcp(caller).objects("abc123").get("repositories", "site")

    asked = server.asked[1]
    assert asked.path == "/clusters/abc123/apis/code.kedge.faros.sh/v1alpha1/repositories/site"
    assert (asked.authorization, asked.client) == ("Bearer caller-token", None)


async def test_no_connection_is_shared_between_the_provider_and_callers(server: Server) -> None:
    async with (
        provider_at(server, **server.verified) as provider,
        CallerIdentity(await provider.server(), CALLER) as one,
        CallerIdentity(await provider.server(), SecretValue("another-token")) as other,
    ):
        # Each of them twice: within an identity, the connection is used again.
        for _ in range(2):
            await ProviderKcp(provider).request("GET", "/version")
            await CallerKcp(one).request("GET", "/version")
            await CallerKcp(other).request("GET", "/version")

    by_connection = {(asked.port, asked.authorization) for asked in server.asked}
    assert len(server.asked) == 6
    assert len(by_connection) == len({port for port, _ in by_connection}) == 3


async def ask(connections: CallerConnections, address: ApiServer, token: str, path: str = "/version") -> None:
    async with connections.identity(address, SecretValue(token)) as caller:
        await CallerKcp(caller).request("GET", path)


async def test_callers_take_turns_on_a_connection_that_says_nothing_of_them(server: Server) -> None:
    connections = CallerConnections()
    async with provider_at(server, **server.verified) as provider:
        address = await provider.server()
        await ProviderKcp(provider).request("GET", "/version")
        for token in ("one", "other", "one"):
            await ask(connections, address, token)
    await connections.close()

    providers, *callers = server.asked
    assert [asked.authorization for asked in callers] == ["Bearer one", "Bearer other", "Bearer one"]
    assert {(asked.client, asked.cookie) for asked in callers} == {(None, None)}
    assert {asked.port for asked in callers} == {callers[0].port} != {providers.port}


async def test_callers_at_the_same_time_each_show_their_own_token(server: Server) -> None:
    connections = CallerConnections()
    async with provider_at(server, **server.verified) as provider:
        address = await provider.server()
        for _ in range(3):
            await asyncio.gather(*(ask(connections, address, f"token-{n}", f"/of-{n}") for n in range(20)))
    await connections.close()

    assert len(server.asked) == 60
    assert all(asked.authorization == f"Bearer token-{asked.path.removeprefix('/of-')}" for asked in server.asked)
    assert len({asked.port for asked in server.asked}) <= 20


async def test_a_connection_with_an_answer_that_nobody_read_is_given_to_nobody(server: Server) -> None:
    connections = CallerConnections()
    async with provider_at(server, **server.verified) as provider:
        address = await provider.server()
        async with (
            connections.identity(address, CALLER) as caller,
            (await caller.session()).request("GET", "/large", timeout=aiohttp.ClientTimeout(total=20)) as answer,
        ):
            assert answer.status == 200
        await ask(connections, address, "other")
    await connections.close()

    assert server.asked[0].port != server.asked[1].port


async def test_a_connection_is_used_again_only_where_the_certificate_is_verified_alike(server: Server) -> None:
    connections = CallerConnections()
    for cluster in (server.verified, server.verified, {"insecure-skip-tls-verify": True}):
        async with provider_at(server, **cluster) as provider:
            await ask(connections, await provider.server(), "one")
    await connections.close()

    assert len({asked.port for asked in server.asked}) == 3


async def test_a_caller_without_a_token_is_nobody(server: Server) -> None:
    async with provider_at(server, **server.verified) as provider:
        with pytest.raises(ValueError, match="no identity"):
            CallerIdentity(await provider.server(), SecretValue(""))


@pytest.mark.parametrize(
    "cluster", ["", "root:kedge:tenants:a", "*", "..", "a/b", "a/../p1", "a%2f..", "A", "a?x", "a#x", "a\n"]
)
async def test_a_cluster_that_is_not_an_id_is_refused_before_anything_is_sent(server: Server, cluster: str) -> None:
    async with (
        provider_at(server, **server.verified) as provider,
        CallerIdentity(await provider.server(), CALLER) as caller,
    ):
        with pytest.raises(ValueError, match="not the ID"):
            CallerKcp(caller).objects(cluster)
    assert server.asked == []


# ---- the server's certificate


async def refusals(server: Server, **cluster: Any) -> list[type[BaseException] | None]:
    """What a request of the provider and one of a caller end in; None is an answer."""
    async with (
        provider_at(server, **cluster) as provider,
        CallerIdentity(await provider.server(), CALLER) as caller,
    ):
        requests = [kcp.request("GET", "/version") for kcp in (ProviderKcp(provider), CallerKcp(caller))]
        results = await asyncio.gather(*requests, return_exceptions=True)
    return [type(result) if isinstance(result, BaseException) else None for result in results]


REFUSED = [aiohttp.ClientConnectorCertificateError] * 2
ACCEPTED = [None, None]


async def test_tls_server_name_is_the_name_that_the_certificate_is_verified_for(server: Server) -> None:
    assert await refusals(server, **server.verified) == ACCEPTED
    assert await refusals(server, **{**server.verified, "tls-server-name": "other.internal"}) == REFUSED
    authority_only = {"certificate-authority": server.verified["certificate-authority"]}
    assert await refusals(server, **authority_only) == REFUSED
    assert len(server.asked) == 2


async def test_without_its_authority_the_certificate_is_refused(server: Server) -> None:
    assert await refusals(server, **{"tls-server-name": SERVER_NAME}) == REFUSED
    assert server.asked == []


async def test_inline_authority_data_verifies_as_a_file_does(server: Server) -> None:
    data = base64.b64encode(Path(server.verified["certificate-authority"]).read_bytes()).decode()
    inline = {"certificate-authority-data": data, "tls-server-name": SERVER_NAME}
    assert await refusals(server, **inline) == ACCEPTED


async def test_insecure_skip_tls_verify_is_heeded(server: Server) -> None:
    """As in the kubeconfig that the hub mints."""
    assert await refusals(server, **{"insecure-skip-tls-verify": True}) == ACCEPTED


async def test_tls_server_name_is_not_expected_of_another_server(server: Server) -> None:
    """The endpoints of an APIExport may be on a shard, which has a name of its own."""
    async with provider_at(server, **server.verified) as provider:
        address = await provider.server()
    assert address.server_hostname(f"{server.root}/services/apiexport") == SERVER_NAME
    assert address.server_hostname("https://shard.internal:6443/services/apiexport") is None


# ---- credentials of Connections


async def test_a_callers_objects_do_not_reach_the_credentials_of_connections(server: Server) -> None:
    connections = Connections(
        registry=Any,  # type: ignore[arg-type]
        bus=Any,  # type: ignore[arg-type]
        credentials_namespace="default",
    )

    async def work() -> Any:
        raise AssertionError

    async with (
        provider_at(server, **server.verified) as provider,
        CallerIdentity(await provider.server(), CALLER) as caller,
    ):
        objects: Any = CallerKcp(caller).objects("abc123")
        parsed = parse_connection(connection_object())
        for refused in (
            connections.for_object(objects, "acme", Versions()),
            connections.credential(objects, parsed),
            connections.with_fresh_credential(objects, "acme", work),
        ):
            with pytest.raises(TypeError, match="only the provider"):
                await refused
    assert server.asked == []
