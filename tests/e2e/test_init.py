"""``code-provider init`` on a real kcp: a fresh workspace, a second run, and workspaces that others have set up."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from devstack.cluster import Cluster
from devstack.errors import ApiError
from devstack.kcp import SECRETS_CLAIM, Kcp, service_account_token
from devstack.kubeconfig import kubeconfig, write_private
from devstack.own_instance import EXPORT
from devstack.processes import Process
from devstack.resources import CODE_API, KNOWN, Manifest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
GO_PROVIDER = ROOT / "tests/fixtures/go-provider"
GRANT = f"kedge:providers:bind:{EXPORT}"
KINDS = {resource.plural: resource.kind for resource in KNOWN if resource.api_version == CODE_API}

SPECS: dict[str, dict[str, Any]] = {
    "connections": {"provider": "github", "type": "pat", "owner": "acme", "secretRef": {"name": "token"}},
    "repositories": {"connectionRef": "it", "name": "site", "visibility": "private"},
    "deploykeys": {"repositoryRef": "it", "readOnly": True},
    "collaborators": {"repositoryRef": "it", "username": "octocat", "permission": "admin"},
    "packages": {"repositoryRef": "it"},
    "repositorycommits": {"repositoryRef": "it", "source": {"bundleRef": {"name": "bundle"}}},
    "repositorycheckouts": {"repositoryRef": "it"},
    "repositorybuildstatuses": {"repositoryRef": "it", "workflowFileName": "build.yaml"},
}
"""A spec of each kind that the Go provider's schemas take."""


class ProviderWorkspace:
    """What the hub provisions for a provider: a workspace, and a ServiceAccount's kubeconfig with the workspace's ID."""

    def __init__(self, path: str, cluster: Cluster, kubeconfig: Path) -> None:
        self.path = path
        self.cluster = cluster
        self.kubeconfig = kubeconfig

    async def init(self, **environ: str) -> list[str]:
        """Run the command. Returns the lines that it printed. Fails the test unless it succeeds."""
        code, lines = await self.try_init(**environ)
        assert code == 0, lines
        return lines

    async def try_init(self, **environ: str) -> tuple[int, list[str]]:
        process = Process(
            "code-provider init",
            [sys.executable, "-m", "code_provider", "init"],
            log_file=self.kubeconfig.with_name("init.log"),
            env=dict(os.environ)
            | {"KEDGE_PROVIDER_KUBECONFIG": str(self.kubeconfig), "CODE_WORKSPACE_PATH": self.path}
            | environ,
        )
        async with process:
            return await process.wait(60), process.lines

    async def identity(self) -> str:
        export = await self.cluster.wait_for("apiexports", EXPORT, lambda found: bool(identity_of(found)))
        return identity_of(export)


def identity_of(export: Manifest | None) -> str:
    return (export or {}).get("status", {}).get("identityHash", "")


@pytest.fixture
async def provider_workspace(kcp: Kcp, tmp_path: Path) -> ProviderWorkspace:
    path = f"root:init-{uuid4().hex[:12]}"
    cluster = kcp.cluster(await kcp.create_workspace(path))
    token = await service_account_token(cluster, "provider", admin_binding="kedge:providers:sa:provider")
    return ProviderWorkspace(path, cluster, write_private(tmp_path / "kubeconfig", kubeconfig(cluster.server, token)))


async def bound_tenant(kcp: Kcp, provider_workspace: ProviderWorkspace, name: str = "tenant") -> Cluster:
    cluster = await kcp.create_workspace(f"{provider_workspace.path}-{name}")
    await kcp.bind(cluster, provider_workspace.path, EXPORT, [SECRETS_CLAIM])
    return kcp.cluster(cluster)


def an_object(plural: str, called: str = "it", /, **spec: Any) -> Manifest:
    return {
        "apiVersion": CODE_API,
        "kind": KINDS[plural],
        "metadata": {"name": called},
        "spec": SPECS[plural] | spec,
    }


def schemas_of(folder: Path) -> list[Manifest]:
    return [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]


def our_schemas() -> dict[str, Manifest]:
    return {schema["spec"]["names"]["plural"]: schema for schema in schemas_of(ROOT / "crds/kcp")}


async def versions(cluster: Cluster) -> dict[str, str]:
    """The resourceVersion of everything that init is responsible for."""
    found = {schema["metadata"]["name"]: schema for schema in await cluster.list("apiresourceschemas")}
    for resource, name in (
        ("apiexports", EXPORT),
        ("apiexportendpointslices", EXPORT),
        ("clusterroles", GRANT),
        ("clusterrolebindings", GRANT),
        ("catalogentries", "code"),
    ):
        item = await cluster.get(resource, name)
        if item is not None:
            found[f"{resource}/{name}"] = item
    return {name: item["metadata"]["resourceVersion"] for name, item in found.items()}


async def offer_catalog(cluster: Cluster) -> None:
    """Serve CatalogEntry in the workspace, as its binding to the hub's export does."""
    crd = yaml.safe_load(files("devstack.devhub").joinpath("catalogentry.crd.yaml").read_text())
    await cluster.create(crd)
    await cluster.wait_for("customresourcedefinitions", crd["metadata"]["name"], is_established)


def is_established(crd: Manifest | None) -> bool:
    conditions = (crd or {}).get("status", {}).get("conditions") or ()
    return any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions)


async def until_bound_to(tenant: Cluster, schemas: dict[str, Manifest]) -> None:
    """Wait until the tenant's binding serves those schemas and no others."""
    names = sorted(schema["metadata"]["name"] for schema in schemas.values())

    def serves(binding: Manifest | None) -> bool:
        bound = (binding or {}).get("status", {}).get("boundResources", [])
        return sorted(resource["schema"]["name"] for resource in bound) == names

    await tenant.wait_for("apibindings", "code", serves, 60)


async def refusal(call: Any) -> str:
    with pytest.raises(ApiError) as raised:
        await call
    assert raised.value.status == 422
    return str(raised.value)


async def test_a_fresh_workspace_gets_the_whole_api_and_a_second_init_writes_nothing(
    kcp: Kcp, provider_workspace: ProviderWorkspace
) -> None:
    await offer_catalog(provider_workspace.cluster)
    catalog = {"KEDGE_CATALOGENTRY_FILE": str(ROOT / "manifest.yaml")}
    await provider_workspace.init(**catalog)

    export = await provider_workspace.cluster.get("apiexports", EXPORT)
    assert export is not None
    assert {resource["name"]: resource["schema"] for resource in export["spec"]["resources"]} == {
        plural: schema["metadata"]["name"] for plural, schema in our_schemas().items()
    }
    assert "maximalPermissionPolicy" not in export["spec"]
    entry = await provider_workspace.cluster.get("catalogentries", "code")
    assert entry is not None
    assert entry["spec"] == yaml.safe_load((ROOT / "manifest.yaml").read_text())["spec"]

    await provider_workspace.identity()
    before = await versions(provider_workspace.cluster)
    assert len(before) == len(KINDS) + 5
    assert await provider_workspace.init(**catalog) == ["init: nothing to do"]
    assert await versions(provider_workspace.cluster) == before

    tenant = await bound_tenant(kcp, provider_workspace)
    served = await tenant.request("GET", f"/apis/{CODE_API}")
    assert {item["name"]: item["kind"] for item in served["resources"] if "/" not in item["name"]} == KINDS
    assert {item["name"] for item in served["resources"] if "/" in item["name"]} == {f"{x}/status" for x in KINDS}
    assert all(item["categories"] == ["kedge"] for item in served["resources"] if "/" not in item["name"])
    for plural in SPECS:
        await tenant.create(an_object(plural))


async def test_a_tenant_of_the_go_provider_keeps_everything_and_gains_the_new_fields(
    kcp: Kcp, provider_workspace: ProviderWorkspace
) -> None:
    theirs = schemas_of(GO_PROVIDER / "schemas")
    for schema in theirs:
        await provider_workspace.cluster.create(schema)
    await provider_workspace.cluster.create(go_export(theirs))
    identity = await provider_workspace.identity()
    tenant = await bound_tenant(kcp, provider_workspace)
    stored = {plural: await tenant.create(finalized(plural)) for plural in SPECS}

    written = await provider_workspace.init()
    assert len([line for line in written if "created apiresourceschemas/" in line]) == len(KINDS)
    assert f"init: updated apiexports/{EXPORT}" in written
    assert await provider_workspace.identity() == identity
    await until_bound_to(tenant, our_schemas())

    for plural, before in stored.items():
        after = await tenant.get(plural, "it")
        assert after is not None
        assert {**after, "metadata": settled(after)} == {**before, "metadata": settled(before)}
        assert (await tenant.patch(plural, "it", {"metadata": {"labels": {"touched": "yes"}}}))["spec"] == before[
            "spec"
        ]
        item = await tenant.patch_status(plural, "it", {"lastHandledReconcileAt": "now"})
        assert item["status"]["lastHandledReconcileAt"] == "now"

    observed = await tenant.create(an_object("repositories", "observed", adoptionPolicy="Observe"))
    assert observed["spec"]["adoptionPolicy"] == "Observe"
    role = await tenant.create(an_object("collaborators", "triage", permission="triage"))
    assert role["spec"]["permission"] == "triage"
    assert await provider_workspace.init() == ["init: nothing to do"]


def finalized(plural: str) -> Manifest:
    """An object as the Go provider keeps it."""
    manifest = an_object(plural)
    manifest["metadata"]["finalizers"] = [f"{plural}.code.kedge.faros.sh/finalizer"]
    return manifest


def settled(item: Manifest) -> Manifest:
    return {key: value for key, value in item["metadata"].items() if key not in ("managedFields", "resourceVersion")}


def go_export(schemas: list[Manifest]) -> Manifest:
    return {
        "apiVersion": "apis.kcp.io/v1alpha2",
        "kind": "APIExport",
        "metadata": {"name": EXPORT},
        "spec": {
            "resources": [
                {
                    "group": "code.kedge.faros.sh",
                    "name": schema["spec"]["names"]["plural"],
                    "schema": schema["metadata"]["name"],
                    "storage": {"crd": {}},
                }
                for schema in schemas
            ],
            "permissionClaims": [SECRETS_CLAIM],
        },
    }


async def test_a_hub_that_applied_the_inline_schemas_needs_only_what_is_missing(
    kcp: Kcp, provider_workspace: ProviderWorkspace
) -> None:
    inline = yaml.safe_load((ROOT / "manifest-inline.yaml").read_text())["spec"]["apiExport"]["schemas"]
    applied = [await provider_workspace.cluster.create(yaml.safe_load(entry["body"])) for entry in inline]
    names = [schema["metadata"]["name"] for schema in applied]
    await provider_workspace.cluster.request(
        "POST",
        "/apis/apis.kcp.io/v1alpha1/apiexports",
        {
            "apiVersion": "apis.kcp.io/v1alpha1",
            "kind": "APIExport",
            "metadata": {"name": EXPORT},
            "spec": {"latestResourceSchemas": names, "permissionClaims": [{"resource": "secrets", "all": True}]},
        },
    )
    identity = await provider_workspace.identity()
    tenant = await bound_tenant(kcp, provider_workspace)
    stored = await tenant.create(an_object("repositories"))
    before = await versions(provider_workspace.cluster)

    written = await provider_workspace.init()

    assert not [line for line in written if "apiresourceschemas" in line]
    after = await versions(provider_workspace.cluster)
    assert {name: after[name] for name in names} == {name: before[name] for name in names}
    assert await provider_workspace.identity() == identity
    export = await provider_workspace.cluster.get("apiexports", EXPORT)
    assert export is not None
    assert [claim["verbs"] for claim in export["spec"]["permissionClaims"]] == [SECRETS_CLAIM["verbs"]]
    kept = await tenant.get("repositories", "it")
    assert kept is not None
    assert kept["metadata"]["uid"] == stored["metadata"]["uid"]
    assert await provider_workspace.init() == ["init: nothing to do"]


async def test_a_slice_that_names_another_path_is_made_anew(provider_workspace: ProviderWorkspace) -> None:
    await provider_workspace.init(CODE_WORKSPACE_PATH=provider_workspace.cluster.server.rpartition("/")[2])
    # "created" may be missing: kcp itself creates a slice for an export that has none, and may be faster.
    assert f"init: deleted apiexportendpointslices/{EXPORT}" in await provider_workspace.init()
    found = await provider_workspace.cluster.get("apiexportendpointslices", EXPORT)
    assert found is not None
    assert found["spec"]["export"] == {"name": EXPORT, "path": provider_workspace.path}


async def test_an_api_that_is_not_served_is_one_line_that_names_the_object(
    provider_workspace: ProviderWorkspace,
) -> None:
    code, lines = await provider_workspace.try_init(KEDGE_CATALOGENTRY_FILE=str(ROOT / "manifest.yaml"))
    assert code == 1
    assert lines[-1].startswith("init: cannot read catalogentries/code: 404, nothing serves that API there")
    assert len(lines) == 1


async def test_the_hub_takes_the_manifest_under_strict_validation(provider_workspace: ProviderWorkspace) -> None:
    await offer_catalog(provider_workspace.cluster)
    path = "/apis/providers.kedge.faros.sh/v1alpha1/catalogentries"
    strict = {"fieldValidation": "Strict"}
    inline = yaml.safe_load((ROOT / "manifest-inline.yaml").read_text())
    with pytest.raises(ApiError, match="schemas"):
        await provider_workspace.cluster.request("POST", path, inline, params=strict)
    await provider_workspace.cluster.request(
        "POST", path, yaml.safe_load((ROOT / "manifest.yaml").read_text()), params=strict
    )


async def test_what_identifies_an_object_cannot_change_and_the_refusal_says_what_to_do(
    kcp: Kcp, provider_workspace: ProviderWorkspace
) -> None:
    await provider_workspace.init()
    tenant = await bound_tenant(kcp, provider_workspace)
    for plural in SPECS:
        await tenant.create(an_object(plural))

    async def set_spec(plural: str, **spec: Any) -> Manifest:
        return await tenant.patch(plural, "it", {"spec": spec})

    assert "create another Repository object" in await refusal(set_spec("repositories", name="other"))
    assert "create another Connection" in await refusal(set_spec("connections", owner="other"))
    assert "for the other user" in await refusal(set_spec("collaborators", username="other"))
    for plural in sorted(SPECS.keys() - {"connections", "repositories"}):
        assert f"create another {KINDS[plural]}" in await refusal(set_spec(plural, repositoryRef="other"))

    assert (await set_spec("repositories", connectionRef="other"))["spec"]["connectionRef"] == "other"
    assert (await set_spec("repositories", owner=""))["spec"]["owner"] == ""
    assert (await set_spec("repositories", owner="acme"))["spec"]["owner"] == "acme"
    for owner in ("other", "", None):
        assert "owner cannot change or be removed" in await refusal(set_spec("repositories", owner=owner))


async def test_references_select_objects_in_a_workspace_and_across_all_of_them(
    kcp: Kcp, provider_workspace: ProviderWorkspace
) -> None:
    await provider_workspace.init()
    tenant = await bound_tenant(kcp, provider_workspace)
    other = await bound_tenant(kcp, provider_workspace, "other")
    for cluster in (tenant, other):
        for plural in SPECS:
            await cluster.create(an_object(plural))
    await tenant.create(an_object("repositories", "elsewhere", connectionRef="another", name="another"))

    export_slice = await provider_workspace.cluster.wait_for("apiexportendpointslices", EXPORT, endpoint_of)
    wildcard = f"{endpoint_of(export_slice).removeprefix(kcp.url)}/clusters/*/apis/{CODE_API}"
    selectors = dict.fromkeys(SPECS, "spec.repositoryRef=it") | {
        "connections": "spec.secretRef.name=token",
        "repositories": "spec.connectionRef=it,spec.name=site",
    }
    for plural, selector in selectors.items():
        params = {"fieldSelector": selector}
        here = await tenant.request("GET", f"/apis/{CODE_API}/{plural}", params=params)
        assert [item["metadata"]["name"] for item in here["items"]] == ["it"]
        everywhere = await kcp.request("GET", f"{wildcard}/{plural}", params=params)
        assert [item["metadata"]["name"] for item in everywhere["items"]] == ["it", "it"]
        nothing = await tenant.request("GET", f"/apis/{CODE_API}/{plural}", params={"fieldSelector": nowhere(selector)})
        assert nothing["items"] == []


def nowhere(selector: str) -> str:
    return ",".join(f"{term.partition('=')[0]}=nowhere" for term in selector.split(","))


def endpoint_of(export_slice: Manifest | None) -> str:
    """The URL of the export's virtual workspace, empty until kcp has published it."""
    endpoints = (export_slice or {}).get("status", {}).get("endpoints", [])
    return endpoints[0]["url"] if endpoints else ""
