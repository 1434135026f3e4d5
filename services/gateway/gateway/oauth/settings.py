"""Settings of Connect with GitHub. The variables have the names that the Go provider's chart sets."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Final
from urllib.parse import urlsplit, urlunsplit

from cryptography.fernet import Fernet
from pydantic import BaseModel, BeforeValidator, Field, model_validator

from codecommon.githost.host_names import SignInHost
from codecommon.githost.http.proxy import ProxyRules
from codecommon.githost.registry import sign_in_host
from codecommon.process.secrets import SecretValue
from codecommon.process.settings import Exactly, Secret, ServiceSettings, is_url

_CALLBACK: Final = "/callback"
_BEHIND_THE_HUB: Final = "/services/providers/"
_ANY: Final = "*"


def _redirect_url(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not is_url(value, ("http", "https")) or "@" in urlsplit(value).netloc:
        raise ValueError("not an http or https URL")
    if not urlsplit(value).path.endswith(_CALLBACK):
        raise ValueError("its path does not end with /callback")
    return value


def _origin(value: object) -> object:
    if not isinstance(value, str) or value == _ANY:
        return value
    parts = urlsplit(value)
    if not is_url(value, ("http", "https")) or "@" in parts.netloc or parts.path.strip("/") or parts.query:
        raise ValueError("not the origin of a page")
    return f"{parts.scheme}://{parts.netloc}"


def _host(value: object) -> object:
    return sign_in_host(value) if isinstance(value, str) else value


def _items(value: object) -> object:
    return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value


def _keys(value: object) -> object:
    if not isinstance(value, str):
        return value
    keys = [item.strip() for item in value.split(",") if item.strip()]
    for key in keys:
        try:
            Fernet(key)
        except ValueError:
            # Without the value, and without the library's words, which may hold it.
            raise ValueError("one of its keys is not 32 bytes in URL-safe base64") from None
    return tuple(SecretValue(key) for key in keys)


def _proxies(value: object) -> object:
    return ProxyRules.from_environ(value) if isinstance(value, dict) else value


class OAuthSettings(BaseModel):
    """It is on when client ID, client secret and redirect URL are set, and ``problem`` finds nothing wrong with them."""

    model_config = ServiceSettings.model_config

    client_id: str | None = Field(default=None, validation_alias="GITHUB_OAUTH_CLIENT_ID")
    """Of the OAuth app. Connect with GitHub needs client ID, client secret and redirect URL."""
    client_secret: Secret | None = Field(default=None, validation_alias="GITHUB_OAUTH_CLIENT_SECRET")
    """Of the OAuth app."""
    redirect_url: Annotated[str, BeforeValidator(_redirect_url)] | None = Field(
        default=None,
        validation_alias="GITHUB_OAUTH_REDIRECT_URL",
        description="the callback as browsers reach it, such as "
        "https://hub.example/services/providers/code/oauth/github/callback",
    )
    """The callback as browsers reach it. Its path ends with `/callback`."""
    portal_origin: Annotated[str, BeforeValidator(_origin)] | None = Field(
        default=None,
        validation_alias="GITHUB_OAUTH_PORTAL_ORIGIN",
        description="the origin of the portal's page, such as https://hub.example",
    )
    """The origin whose page is given the token. Unset: that of the redirect URL, if its path is under `/services/providers/`."""
    scopes: Annotated[tuple[str, ...], BeforeValidator(_items)] = Field(
        default=("repo", "workflow", "delete_repo", "read:org", "admin:public_key", "read:packages"),
        validation_alias="GITHUB_OAUTH_SCOPES",
        description="scopes of GitHub, separated by commas",
    )
    """Scopes to ask for."""
    host: Annotated[SignInHost, BeforeValidator(_host)] = Field(
        default=sign_in_host("https://github.com"),
        validation_alias="GITHUB_OAUTH_BASE_URL",
        description="the server's address such as https://ghe.example or https://octo.ghe.com",
    )
    """An Enterprise Server, or a host on `ghe.com`, to sign in to."""
    cookie_keys: Annotated[tuple[SecretValue, ...], BeforeValidator(_keys)] = Field(
        default=(),
        validation_alias="GITHUB_OAUTH_COOKIE_KEYS",
        description="keys of Fernet, the newest first, separated by commas",
    )
    """Keys of the cookie. The first one encrypts, all decrypt. Unset: a key that follows from the client secret."""
    development: Exactly = Field(default=False, validation_alias="KEDGE_DEV_ALLOW_TENANT_QUERY")
    """Development mode, in which the portal may be a page of any origin."""
    proxies: Annotated[ProxyRules, BeforeValidator(_proxies)] = ProxyRules()

    @model_validator(mode="before")
    @classmethod
    def _pass_on(cls, variables: Any) -> Any:
        """The proxies are made of several variables, as this is."""
        return {"proxies": variables, **variables} if isinstance(variables, dict) else variables

    @property
    def wanted(self) -> bool:
        """Whether the operator has set any of what it needs."""
        return any((self.client_id, self.client_secret, self.redirect_url))

    @property
    def problem(self) -> str | None:
        """Why it is off, as a sentence for the operator. None: it is on."""
        needed = {
            "GITHUB_OAUTH_CLIENT_ID": self.client_id,
            "GITHUB_OAUTH_CLIENT_SECRET": self.client_secret,
            "GITHUB_OAUTH_REDIRECT_URL": self.redirect_url,
        }
        if missing := [name for name, value in needed.items() if not value]:
            return f"{' and '.join(missing)} not set"
        redirect = urlsplit(self.redirect_url or "")
        if redirect.scheme != "https" and not self.is_loopback:
            return "GITHUB_OAUTH_REDIRECT_URL is plain HTTP, which shows the token to everybody on the way; set an https URL"
        if self.host.web.startswith("http:") and not _on_loopback(self.host.web):
            return (
                "GITHUB_OAUTH_BASE_URL is plain HTTP, which shows client secret and token to everybody on the way; "
                "set an https URL"
            )
        if self.portal_origin == _ANY and not self.development:
            return (
                "GITHUB_OAUTH_PORTAL_ORIGIN is *, which hands the token to any page that opens the popup; "
                "set it to the origin of the portal"
            )
        if self.target_origin is None:
            return (
                "GITHUB_OAUTH_PORTAL_ORIGIN is not set, and the path of GITHUB_OAUTH_REDIRECT_URL is not under "
                f"{_BEHIND_THE_HUB}, so the portal is not known to have the same origin; set it to the origin of the portal"
            )
        return None

    @property
    def target_origin(self) -> str | None:
        """The one origin whose page gets the token. None: not known."""
        redirect = urlsplit(self.redirect_url or "")
        if self.portal_origin is None and redirect.path.startswith(_BEHIND_THE_HUB):
            return f"{redirect.scheme}://{redirect.netloc}"
        return self.portal_origin

    @property
    def start_url(self) -> str:
        """Where the portal opens the popup: beside the callback, without query and fragment."""
        redirect = urlsplit(self.redirect_url or "")
        return urlunsplit(
            redirect._replace(path=redirect.path.removesuffix(_CALLBACK) + "/start", query="", fragment="")
        )

    @property
    def callback_path(self) -> str:
        """The path of the callback as the browser sees it."""
        return urlsplit(self.redirect_url or "").path

    @property
    def is_loopback(self) -> bool:
        """Whether the browser is on the machine of the callback, as in development."""
        return _on_loopback(self.redirect_url or "")


def _on_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
