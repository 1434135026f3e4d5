"""Who sends a request: a static user, a ServiceAccount of a logical cluster, or nobody that the hub knows."""

from __future__ import annotations

import base64
import binascii
import json
import re

from aiohttp import web

_CLUSTER_NAME = re.compile(r"[a-z0-9]+(?:[:-][a-z0-9]+)*")


def bearer(request: web.Request) -> str | None:
    """The token of the request's Authorization header."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" and token else None


def service_account_cluster(token: str) -> str | None:
    """The logical cluster that a kcp ServiceAccount token says it belongs to; None for any other token.

    The signature is left to kcp, as the hub leaves it.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        found = claims.get("kubernetes.io/serviceaccount/clusterName") or claims["kubernetes.io"]["clusterName"]
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def is_cluster_name(name: str) -> bool:
    return _CLUSTER_NAME.fullmatch(name) is not None
