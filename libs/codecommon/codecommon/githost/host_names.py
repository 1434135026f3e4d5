"""One spelling for the names of git hosts, whoever wrote them: an operator in a setting, or a tenant in ``baseURL``."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

_HOST_NAME: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
# A name in the DNS has 253 characters at most, and its dot at the end.
_LONGEST_NAME: Final = 254
_PLAIN: Final = "http://"
_NEVER_IN_AN_ENTRY: Final = re.compile(r"[\s\x00-\x1f\x7f\\@/?#]")


def host_name(host: str) -> str:
    """``host`` in lower case and punycode, without a trailing dot. Raises ValueError for what is no host name."""
    if len(host) > _LONGEST_NAME:
        raise ValueError("not a host name")
    if ":" in host:
        return f"[{ipaddress.IPv6Address(host)}]"
    name = host.removesuffix(".")
    if not name.isascii():
        name = name.encode("idna").decode("ascii")
    name = name.lower()
    if not _HOST_NAME.fullmatch(name):
        raise ValueError("not a host name")
    return name


def host_entry(text: str) -> str:
    """An operator's ``host`` or ``host:port`` in the spelling of ``host_name``. Raises ValueError with what is wrong."""
    # What stands before an @ may be a password.
    wrong = ValueError(f"{text.rpartition('@')[2]!r} is not of the form host or host:port")
    if _NEVER_IN_AN_ENTRY.search(text):
        raise wrong
    try:
        parts = urlsplit(f"//{text}")
        name, port = host_name(parts.hostname or ""), parts.port
    except ValueError:
        raise wrong from None
    if port == 0:
        raise wrong
    return name if port is None else f"{name}:{port}"


def allowed_entry(text: str) -> str:
    """An operator's ``host[:port]``, which admits HTTPS, or ``http://host[:port]``, which admits plain HTTP.

    Returned in the spelling of ``host_name``. Raises ValueError with what is wrong.
    """
    if text.lower().startswith(_PLAIN):
        return _PLAIN + host_entry(text[len(_PLAIN) :])
    return host_entry(text)
