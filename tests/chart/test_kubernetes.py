"""What the chart renders, at a real kube-apiserver; `make test-k8s` runs it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from kube_apiserver import Kubernetes, Object, start_kubernetes
from rendering import CHART, EXAMPLES, RefusedByHelm, example, objects, run

from code_provider.services import SERVICES
from devstack.tools import require_chart_tool

HERE = Path(__file__).parent
GO_PROVIDER_CHART = HERE / "go-provider-chart"
NAME = "code-kedge-code-provider"

pytestmark = pytest.mark.timeout(300)


@pytest_asyncio.fixture(scope="module")
async def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Kubernetes]:
    """With the kinds of the operators, and a namespace that takes hardened pods alone."""
    async with start_kubernetes(tmp_path_factory.mktemp("kubernetes")) as kubernetes:
        for path in (HERE / "crds").glob("*.yaml"):
            for crd in yaml.safe_load_all(path.read_text()):
                await kubernetes.apply(crd)
                await kubernetes.wait_established(crd["metadata"]["name"])
        for name, level in (("kedge", "restricted"), ("helm", "privileged"), ("helm3", "privileged")):
            labels = {"pod-security.kubernetes.io/enforce": level}
            await kubernetes.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
            )
        yield kubernetes


def pods(found: list[Object]) -> list[Object]:
    """A Pod of each template. Of templates themselves the server only warns."""
    made = [o for o in found if o["kind"] == "Pod"]
    for o in found:
        if "template" in o.get("spec", {}):
            template = o["spec"]["template"]
            metadata = {**template["metadata"], "name": o["metadata"]["name"], "namespace": o["metadata"]["namespace"]}
            # A StatefulSet adds its claims as volumes.
            claims = [c["metadata"]["name"] for c in o["spec"].get("volumeClaimTemplates", ())]
            volumes = [*template["spec"].get("volumes", ()), *({"name": name, "emptyDir": {}} for name in claims)]
            spec = {**template["spec"], "volumes": volumes}
            made.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return made


@pytest.mark.parametrize("name", EXAMPLES)
async def test_the_server_takes_every_object_of_an_installation(kubernetes: Kubernetes, name: str) -> None:
    for o in objects(*example(name)):
        await kubernetes.apply(o, dry_run=True)


@pytest.mark.parametrize("trigger", ["hpa-external", "keda-jetstream"])
async def test_the_server_takes_every_kind_of_autoscaling(kubernetes: Kubernetes, trigger: str) -> None:
    endpoint = "autoscaling.jetstream.monitoringEndpoint=nats:8222"
    values = ("--set", f"autoscaling.trigger={trigger}", "--set", endpoint)
    for o in objects(*example("autoscaled"), *values):
        await kubernetes.apply(o, dry_run=True)


@pytest.mark.parametrize("name", EXAMPLES)
async def test_pods_run_where_only_hardened_pods_may(kubernetes: Kubernetes, name: str) -> None:
    for pod in pods(objects(*example(name))):
        await kubernetes.apply(pod, dry_run=True)


async def test_a_pod_that_is_not_hardened_would_have_been_found(kubernetes: Kubernetes) -> None:
    (pod, *_) = pods(objects("--set", "securityContext.allowPrivilegeEscalation=true"))

    with pytest.raises(AssertionError, match="violates PodSecurity"):
        await kubernetes.apply(pod, dry_run=True)


class Release:
    """The release ``code`` in a namespace of its own, which one version of helm works on."""

    def __init__(self, kubernetes: Kubernetes, namespace: str) -> None:
        self._kubernetes = kubernetes
        self.namespace = namespace

    def helm(self, helm: str, *arguments: str | Path) -> str:
        to = ("--namespace", self.namespace, "--kubeconfig", self._kubernetes.kubeconfig)
        return run(require_chart_tool(helm), *arguments, *to)

    async def get(self, path: str) -> Object:
        group, _, rest = path.partition(" ")
        return await self._kubernetes.get(f"{group}/namespaces/{self.namespace}/{rest}")

    async def scale(self, replicas: int, name: str = NAME) -> None:
        """As ``kubectl scale`` does it."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{name}/scale"
        answer = await self._kubernetes.http.patch(
            path,
            params={"fieldManager": "kubectl"},
            headers={"Content-Type": "application/merge-patch+json"},
            json={"spec": {"replicas": replicas}},
        )
        answer.raise_for_status()

    async def names(self, path: str) -> set[str]:
        return {item["metadata"]["name"] for item in (await self.get(path))["items"]}

    async def identities(self) -> dict[str, str]:
        """What an upgrade must not make anew → its uid."""
        paths = (
            f"/apis/apps/v1 deployments/{NAME}",
            f"/api/v1 services/{NAME}",
            f"/api/v1 serviceaccounts/{NAME}",
            f"/api/v1 persistentvolumeclaims/{NAME}-commit-bundles",
        )
        return {path: (await self.get(path))["metadata"]["uid"] for path in paths}


@pytest.fixture
def release(kubernetes: Kubernetes) -> Callable[[str], Release]:
    return lambda namespace: Release(kubernetes, namespace)


@pytest.mark.parametrize("installed_with", ["helm", "helm3"])
async def test_a_release_of_the_go_provider_is_upgraded_moved_to_six_services_and_back_and_rolled_back(
    release: Callable[[str], Release], installed_with: str
) -> None:
    code = release(installed_with)
    # helm 4 applies what it installed on the server, which cannot take out what Kubernetes has put into a strategy, and meets the
    # scale of kubectl as a conflict. Of a release that helm 3 installed it merges on the client by itself.
    merged = ("--server-side=false",) if installed_with == "helm" else ()
    code.helm(installed_with, "install", "code", GO_PROVIDER_CHART)
    before = await code.identities()
    address = (await code.get(f"/api/v1 services/{NAME}"))["spec"]["clusterIP"]
    defaulted = (await code.get(f"/apis/apps/v1 deployments/{NAME}"))["spec"]["strategy"]
    assert defaulted["rollingUpdate"], "what Kubernetes put there is the difficult part of the upgrade"

    # As docs/operations.md says: to 0 first, and then with the values file that is there already.
    await code.scale(0)
    code.helm("helm", "upgrade", "code", CHART, *example("go-provider"), *merged)

    assert await code.identities() == before
    deployment = await code.get(f"/apis/apps/v1 deployments/{NAME}")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    template: dict[str, Any] = deployment["spec"]["template"]["spec"]
    assert [c["args"] for c in template["containers"]] == [["serve"]]
    assert "initContainers" not in template
    assert template["containers"][0]["resources"]["limits"] == {"memory": "1Gi"}
    variables = [entry["name"] for entry in template["containers"][0]["env"]]
    assert len(set(variables)) == len(variables)
    assert "KEDGE_HUB_TOKEN" not in variables
    assert {v["name"] for v in template["volumes"]} == {
        "tmp",
        "provider-kubeconfig",
        "hub-token",
        "catalogentry",
        "bundles",
    }

    to_six_services = ("upgrade", "code", CHART, "--set", "nats.url=nats://nats:4222", *merged)
    code.helm("helm", *to_six_services, "--dry-run=client")
    with pytest.raises(RefusedByHelm, match=f"scale --replicas=0 deployment/{NAME}\n"):
        code.helm("helm", *to_six_services)
    await code.scale(0)
    code.helm("helm", *to_six_services)

    assert await code.identities() == before, "the volume stays, too"
    assert await code.names("/apis/apps/v1 deployments") == {NAME, *(f"{NAME}-{s}" for s in SERVICES if s != "gateway")}
    assert await code.names("/apis/batch/v1 jobs") == {f"{NAME}-init-3"}
    deployment = await code.get(f"/apis/apps/v1 deployments/{NAME}")
    assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"
    assert deployment["spec"]["replicas"] == 2
    assert (await code.get(f"/api/v1 services/{NAME}"))["spec"]["clusterIP"] == address

    to_one_pod = ("upgrade", "code", CHART, "--reset-values", *merged)
    with pytest.raises(RefusedByHelm, match=f"scale --replicas=0 deployment/{NAME}-watcher deployment/"):
        code.helm("helm", *to_one_pod)
    for service in SERVICES:
        await code.scale(0, NAME if service == "gateway" else f"{NAME}-{service}")
    code.helm("helm", *to_one_pod)

    assert await code.identities() == before
    assert await code.names("/apis/apps/v1 deployments") == {NAME}
    deployment = await code.get(f"/apis/apps/v1 deployments/{NAME}")
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}

    await code.scale(0)
    code.helm("helm", "rollback", "code", "1", *merged)

    assert await code.identities() == before
    assert await code.names("/apis/apps/v1 deployments") == {NAME}
    assert not await code.names("/apis/batch/v1 jobs")
    template = (await code.get(f"/apis/apps/v1 deployments/{NAME}"))["spec"]["template"]["spec"]
    assert [c["image"] for c in template["containers"]] == ["ghcr.io/faroshq/kedge-code-provider:0.1.0"]
    assert [c["args"] for c in template["initContainers"]] == [["init"]]
    assert json.loads(code.helm("helm", "status", "code", "--output", "json"))["info"]["status"] == "deployed"
