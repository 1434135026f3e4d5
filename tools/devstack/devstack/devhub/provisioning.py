"""What the hub makes for a provider: a workspace, a cluster-admin ServiceAccount in it, a minted kubeconfig."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files

import yaml

from devstack.kcp import Kcp, service_account_token
from devstack.kubeconfig import kubeconfig
from devstack.resources import condition

HUB_PATH = "root:kedge"
"""Below it the hub keeps the workspaces of providers and tenants."""

CRD_TIMEOUT = 30.0


@dataclass(frozen=True)
class ProvisionedProvider:
    """What the provider's operator gets to hold. `kubeconfig` is the file's text and contains the token."""

    name: str
    workspace_path: str
    cluster: str
    kubeconfig: str = field(repr=False)


async def provision_provider(kcp: Kcp, name: str, base_url: str, *, hub_path: str = HUB_PATH) -> ProvisionedProvider:
    """Does the hub's provisioning (hub-contract.md §1.3); running it again changes nothing.

    The provider's workspace is ``<hub_path>:providers:<name>``. The kubeconfig addresses it by logical-cluster ID below
    `base_url`, which is the hub's own URL.
    """
    path = f"{hub_path}:providers:{name}"
    cluster = await kcp.create_workspace(path)
    workspace = kcp.cluster(cluster)
    token = await service_account_token(workspace, "provider", admin_binding="kedge:providers:sa:provider")
    crd = yaml.safe_load(files("devstack.devhub").joinpath("catalogentry.crd.yaml").read_text())
    await workspace.apply(crd)
    await workspace.wait_for(
        "customresourcedefinitions",
        crd["metadata"]["name"],
        lambda found: bool(found and (condition(found, "Established") or {}).get("status") == "True"),
        CRD_TIMEOUT,
    )
    return ProvisionedProvider(name, path, cluster, kubeconfig(f"{base_url}/clusters/{cluster}", token))
