"""Who calls: what the hub says in headers, and the caller's own bearer token.

The headers are claims that nobody has verified. They choose the workspace and give nothing: the token alone decides, in kcp, what
the caller may do there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from starlette.requests import HTTPConnection

from codecommon.api.meta import is_cluster_id
from codecommon.process.secrets import SecretValue

_LONGEST_TOKEN: Final = 16 << 10
_BEARER: Final = re.compile(r"bearer +([\x21-\x7e]+)", re.IGNORECASE)
_MOST_NAME: Final = 253
_NAME: Final = re.compile(r"[\x21-\x7e]+")


class NoIdentity(Exception):
    """The request does not say for whom it is, or says it wrongly. The message tells the caller what to send."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and where.

    Attributes:
        tenant: The workspace's path, or its cluster's ID when the hub's aggregate calls. For people only.
        cluster: The ID of the logical cluster.
        token: The caller's credential for kcp.
        user: The hub's name for the caller. Empty: the aggregate called, which does not say it.
    """

    tenant: str
    cluster: str
    token: SecretValue
    user: str = ""


def require_caller(request: HTTPConnection, *, allow_query: bool = False) -> Caller:
    """The caller of a request. Raises ``NoIdentity``.

    ``allow_query``: the parameters ``tenant``, ``cluster``, ``user`` and ``token`` stand in for headers that are missing.
    """
    query = request.query_params if allow_query else {}
    tenant = _one(request, "x-kedge-tenant") or query.get("tenant", "")
    cluster = _one(request, "x-kedge-cluster") or query.get("cluster", "")
    user = _one(request, "x-kedge-user") or query.get("user", "")
    token = bearer_token(request) or query.get("token", "")
    missing = [
        what
        for what, there in (
            ("the tenant (header X-Kedge-Tenant)", tenant),
            ("the tenant's logical cluster (header X-Kedge-Cluster)", cluster),
            ("a bearer token (header Authorization)", token),
        )
        if not there
    ]
    if missing:
        raise NoIdentity(
            f"This request has no identity of a tenant: {' and '.join(missing)} is missing. Call through the hub with your "
            "bearer token and choose an organization and a workspace there; the hub then sends the tenant's identity."
        )
    if not is_cluster_id(cluster):
        raise NoIdentity(
            "The identity of the tenant is unusable: X-Kedge-Cluster is not the ID of a logical cluster. A workspace path is "
            "none. Use the workspace's cluster ID, and your bearer token for it."
        )
    if len(token) > _LONGEST_TOKEN or not _NAME.fullmatch(token):
        raise NoIdentity("The identity of the tenant is unusable: what was sent as bearer token cannot be one.")
    return Caller(tenant[:_MOST_NAME], cluster, SecretValue(token), user if _is_name(user) else "")


def bearer_token(request: HTTPConnection) -> str:
    """The token in the header Authorization. Empty: there is none, or more than one, or it is in another form."""
    bearer = _BEARER.fullmatch(_one(request, "authorization").strip())
    return bearer[1] if bearer else ""


def _one(request: HTTPConnection, header: str) -> str:
    """The header's value. Empty if it is missing, or there twice: then nobody knows which the hub wrote."""
    values = request.headers.getlist(header)
    return values[0] if len(values) == 1 else ""


def _is_name(text: str) -> bool:
    return len(text) <= _MOST_NAME and _NAME.fullmatch(text) is not None
