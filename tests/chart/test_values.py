"""Values that cannot work are refused with what to do, and README tells of every value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from rendering import CHART, RefusedByHelm, objects, one, render

NATS = "nats.url=nats://nats:4222"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


def refusal(*values: str) -> str:
    with pytest.raises(RefusedByHelm) as caught:
        render(*(part for value in values for part in ("--set", value)))
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["image.tag=v0.0.82"], "image.tag: v0.0.82 is an image of the Go provider, which this chart cannot run. Leave"),
        (["image.tag=0.1.0"], "image.tag: 0.1.0 is an image of the Go provider"),
        (["replicaCount=2"], "replicaCount: 2 is more than mode: single can run"),
        (["mode=distributed"], "mode: distributed needs a NATS with JetStream. Set nats.url"),
        (["nats.url=nats"], "nats.url: nats is not a server such as nats://nats.nats.svc:4222"),
        (["nats.url=nats://user:secret@nats:4222"], "nats.url holds a user or password"),
        ([NATS, "nats.server.enabled=true"], "nats.url and nats.server.enabled exclude each other"),
        ([NATS, "nats.credsSecret.name=a", "nats.userSecret.name=b"], "nats.nkeySecret, nats.credsSecret and nats.userSecret"),
        (["autoscaling.enabled=true"], "autoscaling.enabled needs mode: distributed"),
        ([NATS, "autoscaling.enabled=true"], "keda-prometheus needs autoscaling.prometheus.serverAddress"),
        (
            [NATS, "autoscaling.enabled=true", "autoscaling.trigger=keda-jetstream"],
            "keda-jetstream needs autoscaling.jetstream.monitoringEndpoint",
        ),
        (
            ["nats.server.enabled=true", "autoscaling.enabled=true", "autoscaling.trigger=keda-jetstream"],
            "keda-jetstream cannot ask the NATS of nats.server.enabled, whose monitoring no pod of another release may reach",
        ),
        (["githubOAuth.enabled=true"], "githubOAuth.enabled needs githubOAuth.clientId"),
        (
            [
                "githubOAuth.enabled=true",
                "githubOAuth.clientId=a",
                "githubOAuth.clientSecretRef.name=b",
                "githubOAuth.redirectURL=https://hub.example/",
            ],
            "githubOAuth.redirectURL: https://hub.example/ does not end with /callback",
        ),
        (["hub.url=hub"], "hub.url: hub is not a URL such as https://"),
        # The schema.
        (["mode=both"], "at '/mode': value must be one of '', 'single', 'distributed'"),
        (["nats.replicas=2"], "at '/nats/replicas': value must be one of 1, 3, 5"),
        (["nats.urll=a"], "at '/nats': additional properties 'urll' not allowed"),
        (["autoscalling.enabled=true"], "at '': additional properties 'autoscalling' not allowed"),
        (["autoscaling.services.gateway.minReplicas=1"], "additional properties 'gateway' not allowed"),
        (["services.gateway.replicas=two"], "at '/services/gateway/replicas': got string, want integer"),
        (["replicaCount=one"], "at '/replicaCount': got string, want integer"),
    ],
)  # fmt: skip
def test_values_that_cannot_work_are_refused_with_what_to_do(values: list[str], said: str) -> None:
    assert said in refusal(*values)


@pytest.mark.parametrize("value", ["hub.extra=1", "bundleStore.persistence.annotations.a=b", "image.digest=x"])
def test_a_block_of_the_go_provider_may_have_keys_that_the_chart_does_not_know(value: str) -> None:
    assert render("--set", value) == render()


@pytest.mark.parametrize("value", ["enabled=true", "tags.code=true", "global.a=b", "x-common.a=b"])
def test_what_helm_and_a_parent_chart_put_at_the_top_is_taken(value: str) -> None:
    assert render("--set", value) == render()


OLD_BLOCKS = ["image", "service", "hub", "providerKubeconfig", "githubOAuth", "tenant", "bundleStore", "catalogEntry"]
OLD_BLOCKS += ["serviceAccount", "resources", "podLabels", "podAnnotations", "nodeSelector", "tolerations", "affinity"]


@pytest.mark.parametrize("block", OLD_BLOCKS)
def test_a_block_of_the_go_provider_that_is_empty_counts_as_not_there(block: str) -> None:
    assert render("--set", f"{block}=null") == render()


@pytest.mark.parametrize("tag", ["0.2.0", "v1.0.0", "main", "sha-0123abc", "0.10.1"])
def test_any_later_image_is_taken(tag: str) -> None:
    deployment = one(objects("--set", f"image.tag={tag}"), "Deployment", "code-kedge-code-provider")

    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"ghcr.io/faroshq/kedge-code-provider:{tag}"


def paths(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from paths(value, f"{path}.")
        else:
            yield path


def test_the_schema_knows_every_value_and_no_other() -> None:
    def known(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for key, inner in schema.get("properties", {}).items():
            yield f"{prefix}{key}"
            yield from known(inner, f"{prefix}{key}.")

    in_schema = set(known(SCHEMA))
    free_form = ("podSecurityContext.", "securityContext.", "metrics.dashboards.labels.")
    in_values = {path for path in paths(VALUES) if not path.startswith(free_form) and ".resources." not in path}
    assert not {path for path in in_values if path.partition("[")[0] not in in_schema}
    defaults = {path for whole in paths(VALUES) for path in prefixes(whole)}
    unset = {path for path in in_schema if path not in defaults}
    assert not {path for path in unset if not free_inside(path)}


def prefixes(path: str) -> Iterator[str]:
    parts = path.split(".")
    yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def free_inside(path: str) -> bool:
    """Keys that have no default: those of helm itself, and those of Kubernetes' own objects."""
    return path in ("global", "enabled", "tags") or ".resources." in path


def test_readme_tells_of_every_value() -> None:
    table = set(re.findall(r"^\| `([^`]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE))

    def told(path: str) -> bool:
        # One row for all services, and one for a block of Kubernetes' own.
        general = re.sub(r"^(services|autoscaling\.services)\.[a-z-]+\.", r"\1.<name>.", path)
        return any(part in table for part in (*prefixes(path), *prefixes(general)))

    assert not {path for path in paths(VALUES) if not told(path)}


def test_readme_tells_of_no_value_that_is_not_there() -> None:
    table = re.findall(r"^\| `([^`]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE)
    there = {part for path in paths(VALUES) for part in prefixes(path)}
    general = {re.sub(r"^(services|autoscaling\.services)\.[a-z-]+\.", r"\1.<name>.", path) for path in there}

    assert set(table) <= there | general
