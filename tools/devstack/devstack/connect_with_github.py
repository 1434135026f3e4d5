"""Connect with GitHub on a developer's machine: with an OAuth app of their own, or with one of the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from codecommon.process.settings import SettingsError
from devstack.errors import StackError
from devstack.ports import LOOPBACK_NAMES
from devstack.simulator import SimulatorProcess
from gateway.oauth.settings import OAuthSettings
from gateway.settings import GatewaySettings

PATH: Final = "/services/providers/code/oauth/github"
"""Of the provider's routes, at the hub."""

_PREFIX: Final = "GITHUB_OAUTH_"
_REDIRECT_URL: Final = "GITHUB_OAUTH_REDIRECT_URL"
_ANY_HUB: Final = "https://127.0.0.1"


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What `environ` says of it. An empty variable counts as unset."""
    return {name: value for name, value in environ.items() if name.startswith(_PREFIX) and value}


def check(given: Mapping[str, str]) -> None:
    """Raises `StackError`, which begins with the variable and says what to set, if the gateway would not take `given`."""
    if given:
        try:
            settings = _settings(given)
        except SettingsError as problem:
            raise StackError(str(problem)) from None
        if settings.problem:
            raise StackError(f"{settings.problem} (Connect with GitHub needs it; .env.example explains every setting)")
        _require_reachable(settings)


def hub_port(given: Mapping[str, str]) -> int | None:
    """The port at which the development hub must serve so that browsers find the callback there; None: any."""
    if _REDIRECT_URL not in given or not _leads_to_the_hub(settings := _settings(given)):
        return None
    return urlsplit(settings.redirect_url or "").port


async def environment(given: Mapping[str, str], hub_url: str, simulator: SimulatorProcess | None) -> dict[str, str]:
    """The gateway's variables: `given` if there are any, else those of an app of the simulator. Empty: it is off."""
    redirect = {_REDIRECT_URL: f"{hub_url}{PATH}/callback"}
    if given:
        return redirect | dict(given)
    if simulator is None:
        return {}
    app = await simulator.control.create_oauth_app(redirect[_REDIRECT_URL], asks=True)
    return redirect | {
        "GITHUB_OAUTH_CLIENT_ID": app.client_id,
        "GITHUB_OAUTH_CLIENT_SECRET": app.client_secret,
        "GITHUB_OAUTH_BASE_URL": simulator.url,
    }


def git_hosts(given: Mapping[str, str]) -> list[str]:
    """The hosts that Connections may name because people connect to them, as ``CODE_ALLOWED_GIT_HOSTS`` has them."""
    base_url = _settings(given).host.connection_base_url
    return [base_url.removeprefix("https://")] if base_url else []


def start_url(oauth: Mapping[str, str]) -> str | None:
    """Where a browser begins; None if it is off. `oauth` is complete, as of `environment`."""
    return _settings(oauth).start_url if oauth else None


def _settings(given: Mapping[str, str]) -> OAuthSettings:
    return GatewaySettings.load({_REDIRECT_URL: f"{_ANY_HUB}{PATH}/callback", **given}).oauth


def _leads_to_the_hub(settings: OAuthSettings) -> bool:
    host = urlsplit(settings.redirect_url or "").hostname
    return host in LOOPBACK_NAMES and settings.callback_path == f"{PATH}/callback"


def _require_reachable(settings: OAuthSettings) -> None:
    """The hub serves browsers with TLS, and at a port of its own choice unless one is named."""
    url = urlsplit(settings.redirect_url or "")
    if _leads_to_the_hub(settings) and (url.scheme != "https" or url.port is None):
        raise StackError(
            f"{_REDIRECT_URL} leads to the development hub, which serves browsers with TLS at the port that it names; "
            f"write https://{url.hostname}:<port>{PATH}/callback with a free port above 1023"
        )
