"""What the rendered objects promise: names, selectors, the order of things, and settings that the provider reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendering import Object, example, objects, one, render

from code_provider.services import SERVICES
from devstack.paths import REPOSITORY

NATS = ("--set", "nats.url=nats://nats:4222")
SOURCES = "\n".join(
    path.read_text() for root in ("libs", "services") for path in (REPOSITORY / root).rglob("*.py") if "tests" not in path.parts
)  # fmt: skip


def of_kind(found: list[Object], kind: str) -> dict[str, Object]:
    return {o["metadata"]["name"]: o for o in found if o["kind"] == kind}


def containers(o: Object) -> list[Any]:
    spec = o["spec"] if o["kind"] == "Pod" else o.get("spec", {}).get("template", {}).get("spec", {})
    return [*spec.get("initContainers", ()), *spec.get("containers", ())]


def environ(o: Object) -> dict[str, Any]:
    (container,) = containers(o)
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("code", (), "code-kedge-code-provider"),
        ("kedge-code-provider", (), "kedge-code-provider"),
        ("my-kedge-code-provider-2", (), "my-kedge-code-provider-2"),
        ("code", ("--set", "fullnameOverride=other"), "other"),
        ("code", ("--set", "nameOverride=short"), "code-short"),
        ("short-1", ("--set", "nameOverride=short"), "short-1"),
    ],
)
def test_names_and_selectors_are_those_of_the_go_providers_chart(
    release: str, values: tuple[str, ...], name: str
) -> None:
    """Its Service stands in CatalogEntries that are managed elsewhere; the selector of a Deployment cannot change."""
    label = "short" if "nameOverride=short" in values else "kedge-code-provider"
    selector = {"app.kubernetes.io/name": label, "app.kubernetes.io/instance": release}
    for mode in ((), NATS):
        found = objects(*values, *mode, release=release)
        service = one(found, "Service", name)
        assert service["spec"]["selector"] == selector
        assert [(p["name"], p["port"], p["targetPort"]) for p in service["spec"]["ports"]] == [("http", 8083, "http")]
        deployment = one(found, "Deployment", name)
        assert deployment["spec"]["selector"] == {"matchLabels": selector}
        assert one(found, "ServiceAccount", name)
        assert one(found, "ConfigMap", f"{name}-catalogentry")
    assert one(objects(*values, release=release), "PersistentVolumeClaim", f"{name}-commit-bundles")


def test_the_service_selects_the_pods_of_the_gateway_alone(installation: str) -> None:
    found = objects(*example(installation))
    selector = one(found, "Service", "code-kedge-code-provider")["spec"]["selector"].items()

    selected = [
        o["metadata"]["name"]
        for o in found
        if containers(o) and selector <= (o if o["kind"] == "Pod" else o["spec"]["template"])["metadata"]["labels"].items()
    ]  # fmt: skip

    assert selected == ["code-kedge-code-provider"]


def test_no_two_deployments_select_the_same_pods() -> None:
    selectors = [str(d["spec"]["selector"]) for d in of_kind(objects(*NATS), "Deployment").values()]

    assert len(set(selectors)) == len(selectors) == len(SERVICES)


@pytest.mark.parametrize("release", ["code", "r" * 53])
def test_names_stay_within_63_characters_and_apart(release: str) -> None:
    found = objects(*NATS, "--set", "metrics.serviceMonitor.enabled=true", release=release)
    bounded = [
        o["metadata"]["name"] for o in found if o["kind"] in ("Deployment", "Service", "Job", "PodDisruptionBudget")
    ]

    assert all(len(name) <= 63 for name in bounded)
    for kind in ("Deployment", "Service"):
        assert len(of_kind(found, kind)) == len([o for o in found if o["kind"] == kind])
    labels = [value for o in found for value in o["metadata"]["labels"].values()]
    assert all(len(value) <= 63 for value in labels)


def test_one_pod_runs_serve_and_init_while_there_is_no_nats() -> None:
    found = objects()

    (deployment,) = of_kind(found, "Deployment").values()
    assert [c["args"] for c in containers(deployment)] == [["serve"]]
    assert deployment["spec"]["strategy"] == {"type": "Recreate", "rollingUpdate": None}
    assert environ(deployment)["CODE_SERVE_INIT"] == "true"
    assert not of_kind(found, "Job")


def test_with_a_nats_each_service_has_a_deployment_and_init_a_job_of_this_revision() -> None:
    found = objects(*NATS)

    assert sorted(c["args"][0] for d in of_kind(found, "Deployment").values() for c in containers(d)) == sorted(
        SERVICES
    )
    job = one(found, "Job", "code-kedge-code-provider-init-1")
    assert [c["args"] for c in containers(job)] == [["init"]]
    assert not of_kind(found, "PersistentVolumeClaim")


def test_the_store_of_the_brought_nats_server_is_in_a_folder_of_its_own_on_the_volume() -> None:
    """Which the bundles of the Go provider are on, too."""
    (deployment,) = of_kind(objects("--set", "bundleStore.path=/data/"), "Deployment").values()

    assert environ(deployment)["CODE_DATA_DIR"] == "/data/.serve"
    assert environ(deployment)["CODE_COMMIT_BUNDLE_DIR"] == "/data/"


def test_pods_start_without_the_secrets_that_may_appear_later(installation: str) -> None:
    late = ("kedge-provider-kubeconfig", "kedge-code-hub-token")
    pods = [o for o in objects(*example(installation)) if o["kind"] in ("Deployment", "Pod")]
    for o in pods:
        spec = o["spec"] if o["kind"] == "Pod" else o["spec"]["template"]["spec"]
        for volume in spec["volumes"]:
            if volume.get("secret", {}).get("secretName") in late:
                assert volume["secret"]["optional"] is True
        for container in containers(o):
            assert not [mount for mount in container["volumeMounts"] if "subPath" in mount], (
                "a subPath is never renewed"
            )
            referenced = [entry.get("valueFrom", {}).get("secretKeyRef", {}).get("name") for entry in container["env"]]
            assert not set(late) & set(referenced)


def test_only_the_gateway_is_given_the_secrets_of_the_gateway() -> None:
    found = of_kind(objects(*example("production")), "Deployment")

    secrets = {"GITHUB_OAUTH_CLIENT_SECRET", "KEDGE_HUB_TOKEN_FILE"}
    holders = {name for name, deployment in found.items() if secrets & set(environ(deployment))}

    assert holders == {"code-kedge-code-provider"}


def test_each_service_has_its_own_credentials_of_nats() -> None:
    found = objects(*example("production"))
    keys = {}
    for o in (*of_kind(found, "Deployment").values(), *of_kind(found, "Job").values()):
        (volume,) = [v for v in o["spec"]["template"]["spec"]["volumes"] if v["name"] == "nats-keys"]
        keys[containers(o)[0]["args"][0]] = [item["key"] for item in volume["secret"]["items"]]

    assert keys == {name: [f"{name}.nk"] for name in (*SERVICES, "init")}


def test_every_variable_that_the_chart_sets_is_read_by_the_provider(installation: str) -> None:
    for o in objects(*example(installation)):
        if o["kind"] in ("Deployment", "Job") or o["metadata"]["name"].endswith("doctor"):
            assert not {name for name in environ(o) if f'"{name}"' not in SOURCES}


def test_what_a_user_sets_wins_and_no_variable_is_there_twice() -> None:
    settings = ("--set", "settings.CODE_RESYNC_INTERVAL=5m", "--set", "settings.CODE_LOG_LEVEL=debug")
    own = ("--set-json", 'services.watcher.env=[{"name": "CODE_RESYNC_INTERVAL", "value": "7m"}]')
    found = of_kind(objects(*NATS, *settings, *own), "Deployment")

    assert environ(found["code-kedge-code-provider-watcher"])["CODE_RESYNC_INTERVAL"] == "7m"
    assert environ(found["code-kedge-code-provider-access-svc"])["CODE_RESYNC_INTERVAL"] == "5m"
    for deployment in found.values():
        names = [entry["name"] for entry in containers(deployment)[0]["env"]]
        assert len(set(names)) == len(names)
        assert environ(deployment)["CODE_LOG_LEVEL"] == "debug"


@pytest.mark.parametrize(
    ("values", "limits", "requests"),
    [
        ((), {"memory": "1Gi"}, {"cpu": "100m", "memory": "384Mi"}),
        # The Go provider's figures in full, as in a copy of its values file.
        (
            ("limits.cpu=200m", "limits.memory=256Mi", "requests.cpu=50m", "requests.memory=64Mi"),
            {"memory": "1Gi"},
            {"cpu": "100m", "memory": "384Mi"},
        ),
        (("limits.cpu=1", "limits.memory=256Mi"), {"cpu": 1, "memory": "1Gi"}, {"cpu": "100m", "memory": "384Mi"}),
        (("limits.memory=2Gi",), {"memory": "2Gi"}, {"cpu": "100m", "memory": "384Mi"}),
    ],
)  # fmt: skip
def test_figures_of_the_go_provider_are_raised_and_others_kept(
    values: tuple[str, ...], limits: dict[str, Any], requests: dict[str, Any]
) -> None:
    arguments = [part for value in values for part in ("--set", f"resources.{value}")]
    (deployment,) = of_kind(objects(*arguments), "Deployment").values()

    assert containers(deployment)[0]["resources"] == {"limits": limits, "requests": requests}


def test_pods_are_hardened(installation: str) -> None:
    for o in objects(*example(installation)):
        for container in containers(o):
            spec = o["spec"] if o["kind"] == "Pod" else o["spec"]["template"]["spec"]
            assert spec["automountServiceAccountToken"] is False
            assert (spec["securityContext"]["runAsUser"], spec["securityContext"]["runAsNonRoot"]) == (65532, True)
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_replicas_are_left_to_the_autoscaler_where_there_is_one() -> None:
    found = objects(*example("autoscaled"))
    scaled = {o["spec"]["scaleTargetRef"]["name"] for o in of_kind(found, "ScaledObject").values()}

    assert scaled == {f"code-kedge-code-provider-{s}" for s in SERVICES if s not in ("gateway", "watcher")}
    assert scaled == {name for name, d in of_kind(found, "Deployment").items() if "replicas" not in d["spec"]}


def test_the_catalog_entry_is_the_one_of_a_local_hub_with_the_address_of_the_service() -> None:
    config = one(objects("--set", "service.port=80"), "ConfigMap", "code-kedge-code-provider-catalogentry")
    entry = yaml.safe_load(config["data"]["catalogentry.yaml"])
    local = yaml.safe_load((REPOSITORY / "manifest.yaml").read_text())

    address = "http://code-kedge-code-provider.kedge.svc.cluster.local:80"
    assert (entry["spec"]["ui"].pop("url"), entry["spec"]["backend"].pop("url")) == (address, address)
    del local["spec"]["ui"]["url"], local["spec"]["backend"]["url"]
    # The hub's page loads the bundle anew when the version changes.
    chart = yaml.safe_load((REPOSITORY / "deploy/helm/kedge-code-provider/Chart.yaml").read_text())
    assert entry["spec"].pop("version") == chart["appVersion"]
    del local["spec"]["version"]
    assert entry == local


def test_networks_are_open_unless_asked_and_then_closed_for_every_pod() -> None:
    assert not of_kind(objects(*NATS), "NetworkPolicy")

    found = objects(*example("production"))
    policy = one(found, "NetworkPolicy", "code-kedge-code-provider")
    selected = policy["spec"]["podSelector"]["matchLabels"].items()
    for o in found:
        if containers(o):
            labels = (o if o["kind"] == "Pod" else o["spec"]["template"])["metadata"]["labels"]
            assert selected <= labels.items()
    ports = [sorted(str(p["port"]) for p in rule["ports"]) for rule in policy["spec"]["egress"]]
    assert ports == [["53", "53"], ["443", "6443", "9443"], ["8083"], ["4222"], ["443"], ["443"]]
    public = policy["spec"]["egress"][-1]["to"]
    assert "169.254.0.0/16" in public[0]["ipBlock"]["except"]
    gateway = one(found, "NetworkPolicy", "code-kedge-code-provider-http")
    assert [list(peer) for peer in gateway["spec"]["ingress"][0]["from"]] == [["namespaceSelector"], ["podSelector"]]


@pytest.mark.parametrize("layout", [(), NATS], ids=["single", "distributed"])
def test_a_closed_network_lets_helm_test_reach_the_gateway(layout: tuple[str, ...]) -> None:
    found = objects(*layout, "--set", "networkPolicy.enabled=true")
    policy = one(found, "NetworkPolicy", "code-kedge-code-provider")
    gateway = one(found, "Deployment", "code-kedge-code-provider")

    assert {
        "to": [{"podSelector": gateway["spec"]["selector"]}],
        "ports": [{"port": 8083}],
    } in policy["spec"]["egress"]


@pytest.mark.parametrize("how", ["--values", "--set-json"])
def test_large_whole_numbers_are_not_written_with_an_exponent(how: str, tmp_path: Path) -> None:
    values = {
        "settings": {"CODE_A": 50331648, "CODE_B": 1.5, "CODE_C": True, "CODE_D": 0, "CODE_E": "1e6"},
        "bundleStore": {"persistence": {"size": 10737418240}},
        "init": {"ttlSecondsAfterFinished": 31536000, "backoffLimit": 2000000},
    }
    if how == "--values":
        file = tmp_path / "values.yaml"
        file.write_text(json.dumps(values))
        arguments = [how, str(file)]
    else:
        arguments = [part for key, value in values.items() for part in (how, f"{key}={json.dumps(value)}")]

    single = objects(*arguments)
    told = environ(one(single, "Deployment", "code-kedge-code-provider"))
    assert {name: told[name] for name in values["settings"]} == {
        "CODE_A": "50331648",
        "CODE_B": "1.5",
        "CODE_C": "true",
        "CODE_D": "0",
        "CODE_E": "1e6",
    }
    (claim,) = of_kind(single, "PersistentVolumeClaim").values()
    assert claim["spec"]["resources"]["requests"]["storage"] == 10737418240
    # Of a number with an exponent Python makes the same.
    assert "ttlSecondsAfterFinished: 31536000\n" in render(*NATS, *arguments)
    assert "backoffLimit: 2000000\n" in render(*NATS, *arguments)


def test_a_ports_name_of_the_monitor_is_one_of_the_pod() -> None:
    for arguments in (("--set", "metrics.serviceMonitor.enabled=true"), tuple(example("production"))):
        found = objects(*arguments)
        (monitor,) = of_kind(found, "ServiceMonitor").values()
        service = one(found, "Service", "code-kedge-code-provider-metrics")
        ports = {p["name"]: p["port"] for p in service["spec"]["ports"]}
        assert [e["port"] for e in monitor["spec"]["endpoints"]] == list(ports)
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        for deployment in of_kind(found, "Deployment").values():
            assert service["spec"]["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
            (container,) = containers(deployment)
            assert ports.items() <= {p["name"]: p["containerPort"] for p in container["ports"]}.items()


def test_notes_name_three_commands_and_the_release(tmp_path: Path) -> None:
    notes = (REPOSITORY / "deploy/helm/kedge-code-provider/templates/NOTES.txt").read_text()

    assert len(re.findall(r"^   (?:kubectl|helm) ", notes, re.MULTILINE)) == 3
