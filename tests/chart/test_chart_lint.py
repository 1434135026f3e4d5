"""helm lint, kubeconform and helm-unittest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendering import CHART, EXAMPLES, RefusedByHelm, example, render, run

from devstack.kubernetes_schemas import file_name, strict
from devstack.paths import TOOLS_SCHEMAS
from devstack.tools import require_chart_tool

CRDS = Path(__file__).parent / "crds"


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The schemas of the kinds that operators bring, beside those of Kubernetes itself."""
    folder = tmp_path_factory.mktemp("schemas")
    for path in CRDS.glob("*.yaml"):
        for crd in yaml.safe_load_all(path.read_text()):
            spec: dict[str, Any] = crd["spec"]
            (version,) = spec["versions"]
            schema = strict(version["schema"]["openAPIV3Schema"])
            # The API server knows more of metadata than a definition may say.
            schema["properties"]["metadata"] = {"type": "object"}
            (folder / file_name(spec["group"], version["name"], spec["names"]["kind"])).write_text(json.dumps(schema))
    return folder


def kubeconform(schemas: Path, *files: Path) -> str:
    locations = [f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json" for folder in (TOOLS_SCHEMAS, schemas)]
    arguments = [part for location in locations for part in ("-schema-location", location)]
    return run(require_chart_tool("kubeconform"), "-strict", "-summary", *arguments, *files)


def test_helm_lint_finds_nothing(installation: str) -> None:
    said = run(require_chart_tool("helm"), "lint", "--strict", CHART, *example(installation))

    assert "WARNING" not in said


def test_kubernetes_and_the_operators_know_every_field(schemas: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.yaml" for name in EXAMPLES]
    for file in files:
        file.write_text(render(*example(file.stem)))

    assert "Invalid: 0, Errors: 0, Skipped: 0" in kubeconform(schemas, *files)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("terminationGracePeriodSeconds:", "terminationGracePeriod:"),
        ("targetLabel:", "targetlabel:"),
        ("maxUnavailable: 1", "maxUnavailable: {}"),
    ],
)
def test_a_field_that_is_misspelt_or_of_another_type_is_found(
    schemas: Path, tmp_path: Path, right: str, wrong: str
) -> None:
    rendered = render(*example("production"))
    assert right in rendered
    file = tmp_path / "wrong.yaml"
    file.write_text(rendered.replace(right, wrong))

    with pytest.raises(RefusedByHelm, match=r"Invalid: [1-9]"):
        kubeconform(schemas, file)


def test_the_unit_tests_of_the_chart_pass() -> None:
    run(require_chart_tool("helm-unittest"), "--strict", "--file", "tests/*_test.yaml", CHART)
