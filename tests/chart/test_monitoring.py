"""Alerts and dashboards: promtool, and metrics that the provider really has."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY
from rendering import CHART, example, objects, run

from devstack.paths import REPOSITORY
from devstack.tools import require_chart_tool

RULES_TEST = Path(__file__).with_name("alerts_test.yaml")
# What Prometheus adds to each target, and what its client library exports of every process.
NOT_OURS = {"up", "process_resident_memory_bytes"}
DASHBOARDS = sorted((CHART / "files/dashboards").glob("*.json"))


@pytest.fixture(scope="module")
def rules() -> dict[str, Any]:
    """The ``spec`` of the rendered PrometheusRule, which is what Prometheus loads as a file."""
    (rule,) = [o for o in objects(*example("production")) if o["kind"] == "PrometheusRule"]
    return rule["spec"]


@pytest.fixture
def rules_file(rules: dict[str, Any], tmp_path: Path) -> Path:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rules))
    return file


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """The names of all series of all services."""
    for root in ("libs", "services"):
        for path in (REPOSITORY / root).rglob("*.py"):
            if "tests" not in path.parts and "prometheus_client" in path.read_text():
                parts = path.relative_to(REPOSITORY / root).with_suffix("").parts
                importlib.import_module(".".join(parts[1:]))
    suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    return {f"{m.name}{s}" for m in REGISTRY.collect() if m.type in suffixes for s in suffixes[m.type]}


def alerts(rules: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule)


def names_in(query: str) -> set[str]:
    """The names of metrics in a query: words before a brace."""
    return set(re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{", query))


def test_promtool_takes_the_rules(rules_file: Path) -> None:
    run(require_chart_tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", rules_file)


@pytest.mark.slow
def test_alerts_fire_when_they_should_and_only_then(rules_file: Path) -> None:
    """Slow, because promtool works out hours of samples for each alert."""
    tests = rules_file.with_name("alerts_test.yaml")
    shutil.copy(RULES_TEST, tests)

    run(require_chart_tool("promtool"), "test", "rules", tests)


def test_every_alert_has_a_test(rules: dict[str, Any]) -> None:
    told = RULES_TEST.read_text()

    assert not {rule["alert"] for rule in alerts(rules) if rule["alert"] not in told}


def test_every_rule_uses_metrics_of_this_release_that_exist(rules: dict[str, Any], exported: set[str]) -> None:
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        assert names_in(rule["expr"]) <= exported | NOT_OURS, rule
        selectors = re.findall(r"\{[^}]*\}", rule["expr"])
        assert selectors
        assert all('job="code-kedge-code-provider", namespace="kedge"' in selector for selector in selectors)


def test_every_alert_says_what_it_means_and_where_to_read_on(rules: dict[str, Any]) -> None:
    for rule in alerts(rules):
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"].endswith(f"#{rule['alert'].lower()}")
        assert rule["labels"]["severity"] in ("warning", "critical")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_panel_uses_metrics_that_exist(path: Path, exported: set[str]) -> None:
    dashboard = json.loads(path.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

    assert queries
    for query in queries:
        assert names_in(query), query
        assert names_in(query) <= exported | NOT_OURS, query
        assert all('job="$job"' in selector for selector in re.findall(r"\{[^}]*\}", query))


def test_every_metric_is_in_a_dashboard_or_an_alert(rules: dict[str, Any], exported: set[str]) -> None:
    used = {name for rule in alerts(rules) for name in names_in(rule["expr"])}
    for path in DASHBOARDS:
        used |= {
            n for panel in json.loads(path.read_text())["panels"] for t in panel["targets"] for n in names_in(t["expr"])
        }
    ours = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in exported if name.startswith("code_")}
    shown = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in used}

    # Looked at in the log of a test, or of use beside another one only.
    rarely = {
        "code_watcher_lists",
        "code_watcher_undecodable_objects",
        "code_crawl_seconds",
        "code_http_body_bytes_in_flight",
    }
    rarely |= {"code_host_budget_points", "code_host_budget_wait_seconds"}
    assert ours - shown <= rarely


def test_the_autoscaler_asks_for_a_metric_that_exists(exported: set[str]) -> None:
    for o in objects(*example("autoscaled")):
        if o["kind"] == "ScaledObject":
            assert names_in(o["spec"]["triggers"][0]["metadata"]["query"]) <= exported
