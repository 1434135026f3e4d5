"""The checks of ``code-provider doctor``, in the order in which one needs the other."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import httpx
from nats.errors import Error as NatsError

from code_provider.apiexport import EXPORTS, PERMISSION_CLAIMS, SLICES, exported_resources
from code_provider.apiresourceschemas import SCHEMAS, read_schemas
from code_provider.catalogentry import CATALOG_ENTRIES
from code_provider.doctor_settings import DoctorSettings
from code_provider.provider_workspace import GroupVersionResource, InitError
from codecommon.api.group import API_VERSION
from codecommon.githost.http.trust import WELL_KNOWN, tls_context
from codecommon.kcp.client import JsonObject, KcpError, NotFound, ProviderKcp
from codecommon.kcp.endpoints import EXPORT_NAME, endpoint_urls
from codecommon.kcp.identity import ProviderIdentity
from codecommon.kcp.kubeconfig import KubeconfigError
from codecommon.messaging.bus import Bus, BusUnavailable
from codecommon.messaging.topology import DOCTOR, DURABLES, USERS
from codecommon.process.service import CannotRun
from codecommon.process.settings import NatsSettings

RUN_INIT: Final = "run code-provider init"
_KUBECONFIG_FIX: Final = "mount the provider's kubeconfig from the hub, and set KEDGE_PROVIDER_KUBECONFIG to its path"
_NATS_SECONDS: Final = 3.0
_HTTP_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
_MOST_CLOCK_SKEW_SECONDS: Final = 30.0
"""GitHub refuses an App's JWT that is a minute off."""
_GITHUB_API: Final = "https://api.github.com"
_DELETION: Final = "$JS.API.STREAM.DELETE.CODE_PROVIDER_DOCTOR"


class Problem(Exception):
    """Something is not as it must be. ``fix``: what the operator does."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class Doubtful(Problem):
    """It works, and an installation may well be meant to be so. It is told, and the exit code stays 0."""


class Skipped(Exception):
    """There is nothing to check, or a check before this one has failed. The text says which."""


class Installation:
    """What the checks look at. Use as an async context manager."""

    def __init__(self, settings: DoctorSettings) -> None:
        self.settings = settings
        self.provider = ProviderIdentity(settings.kubeconfig)
        self.kcp = ProviderKcp(self.provider)
        self.reaches_kcp = False
        self.bus: Bus | None = None
        self.kcp_clock: float | None = None
        """How far kcp's clock is ahead of ours, in seconds."""
        self.stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.stack.enter_async_context(self.provider)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stack.aclose()

    async def get(self, resource: GroupVersionResource, name: str) -> JsonObject | None:
        """An object of the provider's workspace. None: there is none. Raises ``Skipped``, and ``Problem``."""
        if not self.reaches_kcp:
            raise Skipped("kcp is not reached")
        try:
            return await self.kcp.request("GET", resource.path(name))
        except NotFound:
            return None
        except KcpError as error:
            raise _refused(f"reading {resource.resource}/{name}", error) from error


def _refused(what: str, error: KcpError) -> Problem:
    if error.status in (401, 403):
        return Problem(
            f"kcp answers {error.status} to {what}",
            "have the hub make a new kubeconfig for the provider, and mount that",
        )
    if error.status == 404:
        return Problem(f"kcp answers 404 to {what}", "see that the kubeconfig names the provider's workspace")
    return Problem(f"kcp answers {error.status} to {what}", "see kcp's log")


def checks(at: Installation) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
    async def kubeconfig() -> str:
        try:
            server = await at.provider.server()
        except KubeconfigError as error:
            raise Problem(str(error), _KUBECONFIG_FIX) from error
        return f"names {server.url}"

    async def kcp() -> str:
        try:
            session = await at.provider.session()
        except KubeconfigError:
            raise Skipped("there is no kubeconfig") from None
        # The workspace itself, which says more than the server: it shows whether the credential is good there.
        try:
            async with session.request("GET", EXPORTS.path(), params={"limit": "1"}, timeout=_HTTP_TIMEOUT) as response:
                told = response.headers.get("Date")
                if told is not None:
                    at.kcp_clock = (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds()
                if response.status >= 300:
                    raise _refused("listing APIExports", KcpError(response.status, "", ""))
        except aiohttp.ClientConnectorCertificateError as error:
            raise Problem(
                f"the certificate of kcp is not trusted: {type(error.certificate_error).__name__}",
                "have the hub make a new kubeconfig, with the authority that signed kcp's certificate",
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Problem(
                f"kcp cannot be reached: {type(error).__name__}",
                "see that the kubeconfig's server resolves here and that a NetworkPolicy lets this pod reach it",
            ) from error
        at.reaches_kcp = True
        return "answers, and the credential is good in the provider's workspace"

    async def schemas() -> str:
        names = _schema_names(at.settings)
        for name in names:
            if await at.get(SCHEMAS, name) is None:
                raise Problem(f"there is no APIResourceSchema {name}", RUN_INIT)
        return f"{len(names)} are there"

    async def export() -> str:
        found = await at.get(EXPORTS, EXPORT_NAME)
        if found is None:
            raise Problem(f"there is no APIExport {EXPORT_NAME}", RUN_INIT)
        exported = {(entry["group"], entry["name"]): entry["schema"] for entry in found["spec"].get("resources", ())}
        for wanted in exported_resources(_schema_names(at.settings)):
            if exported.get((wanted["group"], wanted["name"])) != wanted["schema"]:
                raise Problem(f"the APIExport serves another schema of {wanted['name']}, or none", RUN_INIT)
        for condition in (found.get("status") or {}).get("conditions", ()):
            if condition["status"] == "False":
                raise Problem(
                    f"the APIExport says {condition['type']}=False", f"see its conditions in kcp, and {RUN_INIT}"
                )
        return f"{EXPORT_NAME} serves {len(exported)} resources"

    async def claim() -> str:
        found = await at.get(EXPORTS, EXPORT_NAME)
        if found is None:
            raise Skipped("there is no APIExport")
        claimed = {c["resource"]: set(c.get("verbs", ())) for c in found["spec"].get("permissionClaims", ())}
        for wanted in PERMISSION_CLAIMS:
            if missing := set(wanted["verbs"]) - claimed.get(wanted["resource"], set()):
                raise Problem(
                    f"the APIExport does not claim {wanted['resource']}: {', '.join(sorted(missing))}", RUN_INIT
                )
        return "the APIExport claims Secrets; each tenant accepts that in its APIBinding"

    async def virtual_workspace() -> str:
        found = await at.get(SLICES, EXPORT_NAME)
        if found is None:
            raise Problem(f"there is no APIExportEndpointSlice {EXPORT_NAME}", RUN_INIT)
        path = found["spec"]["export"].get("path")
        if path != at.settings.workspace_path:
            raise Problem(
                f"the APIExportEndpointSlice is of {path}", f"correct CODE_WORKSPACE_PATH, or {RUN_INIT} with it"
            )
        urls = sorted(endpoint_urls(found))
        if not urls:
            # kcp lists a shard once somebody there has bound the API.
            return "kcp lists no endpoint yet: no workspace has enabled the provider"
        for url in urls:
            address = f"{url}/clusters/*/apis/{API_VERSION}/connections"
            try:
                await at.kcp.request("GET", address, params={"limit": "1"})
            except KcpError as error:
                raise _refused(f"listing Connections at {url}", error) from error
            except (aiohttp.ClientError, OSError) as error:
                raise Problem(
                    f"the virtual workspace {url} cannot be reached: {type(error).__name__}",
                    "see that its host resolves here and that a NetworkPolicy lets this pod reach it",
                ) from error
        return f"answers at {', '.join(urls)}"

    async def nats() -> str:
        _require_nats(at)
        try:
            async with asyncio.timeout(_NATS_SECONDS):
                at.bus = await at.stack.enter_async_context(Bus.connect(at.settings.nats, DOCTOR))
        except CannotRun as error:
            raise Problem(
                str(error), "give the doctor its own key: NATS_NKEY=<folder of nats-auth>/doctor.nk"
            ) from error
        except TimeoutError:
            raise Problem(
                "NATS does not answer at NATS_URL",
                "see that a nats-server runs there, and that NATS_CA is its authority",
            ) from None
        await at.bus.ping()
        version = at.bus.nc.connected_server_version
        return f"nats-server {version.major}.{version.minor}.{version.patch} answers, and takes the credentials"

    async def nats_permissions() -> str:
        _require_nats(at)
        if at.bus is None:
            raise Skipped("NATS is not reached")
        if await _lets_in_strangers(at.settings.nats):
            raise Doubtful(
                "NATS lets in whoever has no credentials",
                "unless it is for trying out, write its users with code-provider nats-auth, and reload it",
            )
        try:
            async with Bus.connect(at.settings.nats, DOCTOR) as bus:
                await bus.js.account_info()
                if await _may_delete(bus):
                    raise Doubtful(
                        "the doctor's user may do everything, so the services' users may, too",
                        "give each process a user of its own: code-provider nats-auth",
                    )
        except (NatsError, TimeoutError) as error:
            raise Problem(
                f"NATS does not let the doctor ask for the account's state ({type(error).__name__})",
                "write its users with code-provider nats-auth, and reload it",
            ) from error
        return "nobody gets in without credentials, and a user may do no more than its own work"

    async def streams() -> str:
        _require_nats(at)
        if at.bus is None:
            raise Skipped("NATS is not reached")
        try:
            if lacking := await at.bus.lacks(USERS[DOCTOR]):
                raise Problem(f"NATS has no {', no '.join(lacking)}", RUN_INIT)
            for durable in DURABLES.values():
                config = (await at.bus.js.consumer_info(durable.stream, durable.name)).config
                filters = config.filter_subjects or ([config.filter_subject] if config.filter_subject else [])
                if set(filters) != set(durable.filters):
                    raise Problem(f"the durable {durable.name} is that of another version", RUN_INIT)
        except (NatsError, TimeoutError) as error:
            raise Problem(
                f"NATS does not let the doctor ask for the streams' state ({type(error).__name__})",
                "write its users with code-provider nats-auth, and reload it",
            ) from error
        return "every stream, durable and bucket is there"

    async def hub() -> str:
        if at.settings.hub_url is None:
            raise Skipped("KEDGE_HUB_URL is not set, so there is no heartbeat")
        url = f"{at.settings.hub_url}/api/providers"
        response = await _ask(url, "the hub", "correct KEDGE_HUB_URL", insecure=at.settings.hub_insecure)
        if response.status_code != 200:
            raise Problem(
                f"{url} answers {response.status_code}", "correct KEDGE_HUB_URL: it is the hub's address without a path"
            )
        items = _json(response).get("items") or ()
        found = next((item for item in items if item.get("name") == at.settings.provider_name), None)
        if found is None:
            raise Problem(
                f"the hub does not list a provider {at.settings.provider_name}",
                f"correct KEDGE_PROVIDER_NAME, or set KEDGE_CATALOGENTRY_FILE and {RUN_INIT}",
            )
        if not found.get("ready", True):
            raise Problem(
                f"the hub lists {at.settings.provider_name} as not ready",
                "start the gateway, which sends heartbeats; see its log for their answers",
            )
        return f"lists {at.settings.provider_name}"

    async def backend() -> str:
        entry = await at.get(CATALOG_ENTRIES, at.settings.provider_name)
        if entry is None:
            raise Skipped(f"there is no CatalogEntry {at.settings.provider_name} in the provider's workspace")
        told = entry["spec"].get("backend") or {}
        url = str(told.get("url") or "").rstrip("/")
        if not url:
            raise Problem("the CatalogEntry names no backend", f"set spec.backend.url in it and {RUN_INIT}")
        response = await _ask(
            f"{url}{told.get('healthPath') or '/healthz'}",
            "the CatalogEntry's backend",
            f"start the gateway, or correct spec.backend.url in KEDGE_CATALOGENTRY_FILE and {RUN_INIT}",
        )
        if response.status_code != 200:
            raise Problem(f"{url} answers {response.status_code}", "see the gateway's log, or correct spec.backend.url")
        return f"{url} answers"

    async def oauth_redirect() -> str:
        oauth = at.settings.oauth
        if not oauth.wanted:
            raise Skipped("Connect with GitHub is not set up")
        if oauth.problem is not None:
            raise Problem("Connect with GitHub is off", oauth.problem)
        url = oauth.start_url.removesuffix("/start") + "/config"
        fix = "set GITHUB_OAUTH_REDIRECT_URL to the callback as browsers reach it, and register the same with GitHub"
        response = await _ask(url, "the callback's address", fix, insecure=at.settings.hub_insecure)
        if response.status_code != 200 or _json(response).get("enabled") is not True:
            raise Problem(f"{url} is not the gateway's ({response.status_code})", fix)
        return f"{oauth.redirect_url} leads to the gateway"

    async def clock() -> str:
        if at.kcp_clock is None:
            raise Skipped("kcp is not reached, so there is no other clock to compare with")
        off = abs(at.kcp_clock)
        if off > _MOST_CLOCK_SKEW_SECONDS:
            raise Problem(f"this machine and kcp differ by {off:.0f} s", "let NTP set the clocks of both machines")
        return "agrees with kcp's to within 30 s"

    async def git_hosts() -> str:
        # GitHub's own hosts are allowed whatever is set.
        allowed = sorted(at.settings.allowed_git_hosts)
        addresses = [_GITHUB_API, *(host if "://" in host else f"https://{host}" for host in allowed)]
        said: list[str] = []
        unreached: list[str] = []
        for address in addresses:
            try:
                said.append(f"{address} {await _reach(at.settings, address)}")
            except (httpx.HTTPError, OSError) as error:
                unreached.append(f"{address} ({type(error).__name__})")
        if allowed and len(unreached) == 1 and unreached[0].startswith(f"{_GITHUB_API} "):
            raise Doubtful(
                f"cannot reach {unreached[0]}",
                "where Connections to github.com are wanted, set HTTPS_PROXY, or let this pod reach it",
            )
        if unreached:
            raise Problem(
                f"cannot reach {', '.join(unreached)}",
                "correct CODE_ALLOWED_GIT_HOSTS, set HTTPS_PROXY, or let this pod reach them",
            )
        return ", ".join(said)

    return [
        ("kubeconfig", kubeconfig),
        ("kcp", kcp),
        ("schemas", schemas),
        ("export", export),
        ("claim", claim),
        ("virtual workspace", virtual_workspace),
        ("nats", nats),
        ("nats permissions", nats_permissions),
        ("streams", streams),
        ("hub", hub),
        ("backend", backend),
        ("oauth redirect", oauth_redirect),
        ("clock", clock),
        ("git hosts", git_hosts),
    ]


def _require_nats(at: Installation) -> None:
    if at.settings.external_nats is None:
        raise Skipped("NATS_URL is not set: serve brings a nats-server of its own, which only its own processes reach")


async def _lets_in_strangers(settings: NatsSettings) -> bool:
    """Whether the server takes a connection without a user. The certificate is for the server's listener, which may want one."""
    stranger = NatsSettings(url=settings.url, ca=settings.ca, cert=settings.cert, key=settings.key)
    try:
        async with asyncio.timeout(_NATS_SECONDS), Bus.connect(stranger):
            return True
    except (CannotRun, TimeoutError):
        return False


async def _may_delete(bus: Bus) -> bool:
    """Whether this user may delete a stream; asked of one that nobody has. Raises ``Problem`` if there is no answer."""
    try:
        await bus.nc.publish(_DELETION)
        # The server answers in order, so by then it has refused it, if it does. The client sends the first ping ahead of it.
        await bus.ping()
        await bus.ping()
        if bus.refuses(_DELETION):
            return False
        await bus.nc.request(_DELETION, b"", timeout=_NATS_SECONDS)
    except (TimeoutError, BusUnavailable):
        raise Problem(
            "NATS gives no answer to what only an administrator may ask",
            "see that the nats-server is not overloaded, and run the doctor again",
        ) from None
    return True


def _schema_names(settings: DoctorSettings) -> list[str]:
    try:
        schemas = read_schemas(settings.schemas_dir)
    except InitError as error:
        raise Problem(str(error), "correct KEDGE_SCHEMAS_DIR") from error
    if not schemas:
        raise Problem(f"there are no schemas in {settings.schemas_dir}", "correct KEDGE_SCHEMAS_DIR, or unset it")
    return [schema["metadata"]["name"] for schema in schemas]


async def _ask(url: str, what: str, fix: str, *, insecure: bool = False) -> httpx.Response:
    verify: ssl.SSLContext | bool = False if insecure else tls_context(WELL_KNOWN)
    try:
        async with httpx.AsyncClient(verify=verify, timeout=5, trust_env=False) as client:
            return await client.get(url)
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise Problem(f"{what} {url} cannot be reached: {type(error).__name__}", fix) from error


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        found: Any = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


async def _reach(settings: DoctorSettings, address: str) -> str:
    """How the host answers. Its answer is not read."""
    proxy = settings.proxies.proxy_for(httpx.URL(address))
    began = time.monotonic()
    try:
        async with (
            httpx.AsyncClient(verify=tls_context(WELL_KNOWN), timeout=5, trust_env=False, proxy=proxy) as client,
            client.stream("GET", address),
        ):
            return f"answers in {(time.monotonic() - began) * 1000:.0f} ms"
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return "answers, with a certificate of its own authority: its Connections need spec.caBundle"
        raise
