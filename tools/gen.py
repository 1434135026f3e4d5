"""Generate the files that follow from crds/*.yaml, manifest.yaml and the code. With --check, name stale files and exit
1.

It writes crds/kcp (one APIResourceSchema per file), their copy in the code-provider distribution, manifest-inline.yaml,
docs/api.md, docs/conditions.md, docs/configuration.md, docs/metrics.md and the portal's tables of reasons and tools. It
removes a file in the two schema folders that has no CRD.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from limits import RateLimitItem
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from pydantic import AliasChoices, BaseModel
from pydantic.fields import FieldInfo

from code_provider.serve_settings import ServeSettings
from codecommon.api.kinds import KINDS
from codecommon.api.reasons import ConditionType, Reason, documented, plain
from codecommon.controller.settings import ReconcilerSettings
from codecommon.githost.host_names import SignInHost
from codecommon.process.settings import ServiceSettings
from gateway.mcp_tools.explain import ACTORS
from gateway.mcp_tools.table import tools
from gateway.settings import GatewaySettings
from package_crawler.settings import CrawlerSettings

ROOT = Path(__file__).resolve().parent.parent

SCHEMAS = Path("crds/kcp")
SCHEMA_FOLDERS = (SCHEMAS, Path("libs/cli/code_provider/schemas"))
"""Each folder gets the same files and holds nothing else."""

Json = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """Block style, indented lists and no anchors, for people and simple tools that read the files."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Literal(str):
    """A string that is written as a ``|`` block."""


_Dumper.add_representer(
    _Literal, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")
)


def dump(document: Json, header: str = "") -> str:
    body = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=116, allow_unicode=True)
    return "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines()) + body


# --- APIResourceSchemas -----------------------------------------------------------------------------------------------


def read_crds(root: Path) -> list[Json]:
    """The CRDs in the order of ``KINDS``. Raises ``SystemExit`` for a wrong file name and for a CRD without a
    ``KindSpec``.
    """
    crds: dict[str, Json] = {}
    for path in sorted((root / "crds").glob("*.yaml")):
        crd = yaml.safe_load(path.read_text(encoding="utf-8"))
        plural = crd["spec"]["names"]["plural"]
        if path.stem != plural:
            raise SystemExit(f"{path.relative_to(root)}: holds {plural}, so its name must be {plural}.yaml")
        crds[plural] = crd
    if unknown := crds.keys() - KINDS.keys():
        raise SystemExit(f"crds: there is no KindSpec in codecommon.api.kinds for {', '.join(sorted(unknown))}")
    order = list(KINDS)
    return [crds[plural] for plural in sorted(crds, key=order.index)]


def schema_spec(crd: Json) -> Json:
    """The spec of the APIResourceSchema. There ``schema`` is the schema itself, without the level
    ``openAPIV3Schema``.
    """
    spec = crd["spec"]
    return {
        "group": spec["group"],
        "names": spec["names"],
        "scope": spec["scope"],
        "versions": [{**version, "schema": version["schema"]["openAPIV3Schema"]} for version in spec["versions"]],
    }


def schema_name(spec: Json, current: str | None, today: date) -> str:
    """``vYYMMDD-<8 hex digits>.<plural>.<group>``.

    kcp's schemas are immutable, so the name changes with the content. The day is for people only. It stays the same
    while the hash is that of ``current``, which is the name in the generated file now.
    """
    content = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    suffix = f"-{digest}.{spec['names']['plural']}.{spec['group']}"
    if current is not None and re.fullmatch(rf"v\d{{6}}{re.escape(suffix)}", current):
        return current
    return f"v{today:%y%m%d}{suffix}"


def api_resource_schema(root: Path, crd: Json, today: date) -> tuple[str, Json]:
    """The file name, and the document."""
    filename = f"{crd['metadata']['name']}.yaml"
    generated = root / SCHEMAS / filename
    current = None
    if generated.exists():
        current = (yaml.safe_load(generated.read_text(encoding="utf-8")) or {}).get("metadata", {}).get("name")
    spec = schema_spec(crd)
    return filename, {
        "apiVersion": "apis.kcp.io/v1alpha1",
        "kind": "APIResourceSchema",
        "metadata": {"name": schema_name(spec, current, today)},
        "spec": spec,
    }


# --- manifest-inline.yaml ---------------------------------------------------------------------------------------------

INLINE_HEADER = """\
Generated by tools/gen.py from manifest.yaml and crds/; do not edit.

The CatalogEntry for hubs of the older design, which create the schemas from the entry. Hubs of today take manifest.yaml
and would drop the schemas here."""


def manifest_inline(manifest: Json, schemas: list[Json]) -> Json:
    inline = [
        {
            "groupResource": f"{schema['spec']['names']['plural']}.{schema['spec']['group']}",
            "body": _Literal(dump(schema)),
        }
        for schema in schemas
    ]
    export = {**manifest["spec"]["apiExport"], "schemas": inline}
    return {**manifest, "spec": {**manifest["spec"], "apiExport": export}}


# --- docs/api.md ------------------------------------------------------------------------------------------------------

API_DOC_HEADER = """\
# API reference

<!-- Generated by tools/gen.py from crds/; do not edit. -->

Group `code.kedge.faros.sh`, version `v1alpha1`. Every kind is cluster-scoped, has a status subresource and belongs to
category `kedge`. `conditions[]` is the standard list of `metav1.Condition`, keyed by type."""

CONSTRAINTS = (
    ("enum", lambda value: "one of " + ", ".join(f"`{item}`" for item in value)),
    ("format", lambda value: f"format `{value}`"),
    ("pattern", lambda value: f"pattern `{value}`"),
    ("minLength", lambda value: f"min length {value}"),
    ("maxLength", lambda value: f"max length {value}"),
    ("minimum", lambda value: f"min {value}"),
    ("maximum", lambda value: f"max {value}"),
    ("maxItems", lambda value: f"max items {value}"),
    ("x-kubernetes-list-map-keys", lambda value: "keyed by " + ", ".join(f"`{item}`" for item in value)),
    ("x-kubernetes-validations", lambda value: "; ".join(f"`{rule['rule']}`" for rule in value)),
)


def fields(schema: Json, path: str) -> Iterator[tuple[str, Json, bool]]:
    """Each field below ``schema`` except those of conditions: its path, its schema, and whether its parent requires
    it.
    """
    for name, field in schema.get("properties", {}).items():
        field_path = f"{path}.{name}"
        yield field_path, field, name in schema.get("required", ())
        if name == "conditions":
            continue
        if field["type"] == "array":
            yield from fields(field["items"], f"{field_path}[]")
        else:
            yield from fields(field, field_path)


def _type_name(field: Json, path: str) -> str:
    if path == "status.conditions":
        return "[]Condition"
    return f"[]{field['items']['type']}" if field["type"] == "array" else field["type"]


def _cell(text: str) -> str:
    """``text`` in one cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def api_doc(crds: list[Json]) -> str:
    out = [API_DOC_HEADER]
    for crd in crds:
        names, (version,) = crd["spec"]["names"], crd["spec"]["versions"]
        schema = version["schema"]["openAPIV3Schema"]
        printed = version["additionalPrinterColumns"]
        columns = ", ".join(f"{column['name']} `{column['jsonPath']}`" for column in printed)
        selectable = ", ".join(f"`{field['jsonPath'].removeprefix('.')}`" for field in version["selectableFields"])
        out += [
            f"\n## {names['kind']}\n",
            f"`{names['plural']}`, short `{', '.join(names['shortNames'])}`. {schema['description']}\n",
            f"Printer columns: {columns}. Field selectors: {selectable}.\n",
            "| field | type | required | constraints | |",
            "|---|---|---|---|---|",
        ]
        for part in ("spec", "status"):
            part_schema = schema["properties"][part]
            for rule in part_schema.get("x-kubernetes-validations", ()):
                out.append(f"| `{part}` | object | yes | `{_cell(rule['rule'])}` | {_cell(rule['message'])} |")
            for path, field, required in fields(part_schema, part):
                constraints = "; ".join(text(field[key]) for key, text in CONSTRAINTS if key in field)
                cells = (f"`{path}`", _type_name(field, path), "yes" if required else "", constraints)
                out.append("| " + " | ".join(map(_cell, (*cells, field.get("description", "")))) + " |")
    return "\n".join(out) + "\n"


# --- docs/conditions.md -----------------------------------------------------------------------------------------------

CONDITIONS_DOC_HEADER = """\
# Conditions and reasons

<!-- Generated by tools/gen.py from codecommon.api.reasons; do not edit. -->

Every kind follows [kstatus](https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md).

## Types
"""

REASONS_DOC_HEADER = """
`Validated` is False with one of three reasons, which the portal knows: `CredentialUnavailable`, `ValidationFailed` and
`ProviderNotFound`. The precise reason is that of `Ready`.

## Reasons

The second column says what reconciling ended in:

| result | the reconciler | conditions | what happens next |
|---|---|---|---|
| ready | returns `Ready` | Ready=True | the object is compared with the host once per resync interval |
| running | is still at work | Reconciling=True, the rest untouched | the work goes on |
| stalled | raises `Terminal` | Ready=False, Stalled=True | somebody has to act; a change of the object or a dependency wakes it |
| waiting | raises `NotReady` | Ready=False, Reconciling=True | the other object's change wakes this one |
| retried | raises `Retryable` | Reconciling=True; Ready stays, unless it speaks of an older spec | tried again after a pause |
| condition | returns it beside its result | the condition that the third column names | nothing by itself |

A comparison by the clock that has to be tried again writes no status.

Two annotations steer the work on an object. A new value of `code.kedge.faros.sh/reconcile-requested-at` asks for a look now,
which `status.lastHandledReconcileAt` confirms. `code.kedge.faros.sh/paused: "true"` stops all work until it is removed or the
object is deleted.
"""


def conditions_doc() -> str:
    out = [CONDITIONS_DOC_HEADER, "| type | kinds | polarity | means |", "|---|---|---|---|"]
    for value, head, meaning in documented(ConditionType):
        kinds, _, polarity = head.partition("; ")
        out.append("| " + " | ".join(map(_cell, (f"`{value}`", kinds, polarity, meaning))) + " |")
    out += [REASONS_DOC_HEADER, "| reason | result | means |", "|---|---|---|"]
    out += ["| " + " | ".join(map(_cell, (f"`{value}`", *text))) + " |" for value, *text in documented(Reason)]
    return "\n".join(out) + "\n"


# --- docs/configuration.md --------------------------------------------------------------------------------------------

CONFIGURATION_DOC_HEADER = """\
# Configuration

<!-- Generated by tools/gen.py from the settings classes; do not edit. -->

Settings come from the environment. They are read once, when a process starts. An empty variable counts as unset. A wrong
value is one line on stderr, which names the variable and what is accepted, and exit code 2.

`code-provider serve` passes its environment to all services, so it takes every variable on this page but those of `init`
alone."""

FURTHER_VARIABLES = (
    (
        "`KEDGE_PROVIDER_KUBECONFIG`, else `CODE_KUBECONFIG`, else `KUBECONFIG`",
        "the service account of the pod",
        "Path of the provider's kubeconfig. A service waits for the file, and reads it anew when it changes.",
    ),
    (
        "`KEDGE_SCHEMAS_DIR`",
        "`/etc/kedge/schemas`, else those of the package",
        "`init`: the folder of the APIResourceSchemas to apply.",
    ),
    (
        "`KEDGE_CATALOGENTRY_FILE`",
        "none is applied",
        "`init`: the file of the CatalogEntry to register.",
    ),
    (
        "`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`",
        "unset",
        "Proxies to git hosts.",
    ),
    (
        "`SSL_CERT_FILE`, `SSL_CERT_DIR`",
        "certifi's",
        "The well-known authorities. `caBundle` of a Connection comes on top.",
    ),
    (
        "`OTEL_*`",
        "tracing is off",
        "As in the OpenTelemetry specification; an endpoint turns it on.",
    ),
)

SETTINGS: Mapping[str, type[BaseModel]] = {
    "Every process": ServiceSettings,
    "connection-svc, repository-svc, access-svc and package-crawler": ReconcilerSettings,
    "package-crawler": CrawlerSettings,
    "gateway": GatewaySettings,
    "code-provider serve": ServeSettings,
}
"""Each section has the variables that no section before it has."""


def _attribute_docs(model: type[BaseModel]) -> dict[str, str]:
    """The strings below the fields of a class and its bases, by field."""
    docs: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not (issubclass(base, BaseModel) and base.__module__.split(".")[0] != "pydantic"):
            continue
        (found,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(found, ast.ClassDef)
        for field, doc in zip(found.body, found.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(doc, ast.Expr):
                docs[field.target.id] = inspect.cleandoc(ast.literal_eval(doc.value))
    return docs


def _variables(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo, str]]:
    """Each variable that ``model`` reads, its field, and the string below the field."""
    docs = _attribute_docs(model)
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        if isinstance(alias, AliasChoices):
            # The specification of OpenTelemetry describes them.
            continue
        if isinstance(alias, str):
            if not alias.startswith(("OTEL_", "HOME", "XDG_")):
                yield alias, field, docs.get(name, "")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation)


def _go_duration(value: timedelta) -> str:
    hours, rest = divmod(int(value.total_seconds()), 3600)
    minutes, seconds = divmod(rest, 60)
    return "".join(f"{number}{unit}" for number, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if number)


def _default(value: object) -> str:
    match value:
        case timedelta():
            text = _go_duration(value)
        case RateLimitItem():
            text = f"{value.amount}/{value.GRANULARITY.name}"
        case SignInHost():
            text = value.web
        case bool():
            text = str(value).lower()
        case tuple() | frozenset() | dict() if not value:
            text = ""
        case tuple():
            text = ",".join(map(str, value))
        case _:
            text = "" if value is None else str(value)
    return f"`{text}`" if text else "unset"


def configuration_doc() -> str:
    out, seen = [CONFIGURATION_DOC_HEADER], set[str]()
    for title, model in SETTINGS.items():
        out += [f"\n## {title}\n", "| variable | default | accepted | meaning |", "|---|---|---|---|"]
        for variable, field, doc in _variables(model):
            if variable in seen:
                continue
            seen.add(variable)
            if not doc:
                raise SystemExit(
                    f"{variable}: its field in {model.__name__} has no string below it that says what it is"
                )
            default = _default(field.get_default(call_default_factory=True))
            cells = (f"`{variable}`", default, field.description or "", doc.replace("``", "`"))
            out.append("| " + " | ".join(map(_cell, cells)) + " |")
    out += ["\n## Read otherwise\n", "| variable | default | meaning |", "|---|---|---|"]
    out += [f"| {' | '.join(cells)} |" for cells in FURTHER_VARIABLES]
    return "\n".join(out) + "\n"


# --- docs/metrics.md --------------------------------------------------------------------------------------------------

METRICS = {
    "All processes": ("codecommon.process.liveness",),
    "Reconciling services and the crawler": (
        "codecommon.controller.metrics",
        "codecommon.controller.backlog",
        "codecommon.kcp.field_selectors",
    ),
    "Requests to git hosts": ("codecommon.githost.http.metrics", "codecommon.githost.budget.metrics"),
    "Bundle store, in repository-svc and the gateway": ("codecommon.messaging.bundle_metrics",),
    "Watcher": ("watcher.metrics",),
    "Package crawler": ("package_crawler.metrics",),
    "Gateway": ("gateway.metrics", "gateway.mcp_server.metrics"),
}
"""The modules with metrics, by who serves them. A metric elsewhere is an error, see ``metrics_doc``."""


def metrics_doc() -> str:
    """Raises ``SystemExit`` for a metric of ours in a module that ``METRICS`` does not name."""
    lines = [
        "# Metrics",
        "",
        "<!-- Generated by tools/gen.py from the metrics in the code; do not edit. -->",
        "",
        "Each process serves these at `/metrics` on its health port, in Prometheus's format. The chart's alerts and dashboards",
        "use them. [Processes](architecture.md#processes) says how to scale by them. No label names a workspace.",
    ]
    documented: set[str] = set()
    for who, modules in METRICS.items():
        lines += ["", f"## {who}", "", "| metric | type | labels | says |", "|---|---|---|---|"]
        for module in map(importlib.import_module, modules):
            for metric in vars(module).values():
                if not isinstance(metric, MetricWrapperBase):
                    continue
                (described,) = metric.describe()
                suffix = "_total" if described.type == "counter" else ""
                labels = ", ".join(f"`{label}`" for label in metric._labelnames)
                says = described.documentation.replace("|", "\\|")
                lines.append(f"| `{described.name}{suffix}` | {described.type} | {labels} | {says} |")
                documented.add(described.name)
    served = {described.name for described in REGISTRY.collect() if described.name.startswith("code_")}
    if served != documented:
        raise SystemExit(f"tools/gen.py: METRICS lacks the modules of {sorted(served ^ documented)}")
    return "\n".join(lines) + "\n"


# --- portal/src/text/reasons.gen.ts -----------------------------------------------------------------------------------

REASONS = Path("portal/src/text/reasons.gen.ts")

REASONS_HEADER = """\
// Generated by tools/gen.py from codecommon.api.reasons and the gateway's `explain`; do not edit.

/** What a type of condition means. */
export const CONDITION_TYPES: Readonly<Record<string, string>> = """

REASONS_MIDDLE = """;

/** What a reason means, and who acts where the conditions alone would say otherwise. */
export const REASONS: Readonly<Record<string, { readonly means: string; readonly actor?: string }>> = """


def reasons_module() -> str:
    """The portal explains in the same words as the gateway's tools and docs/conditions.md."""
    types = {value: meaning for value, _, meaning in documented(ConditionType)}
    reasons = {
        value: {"means": plain(meaning)} | ({"actor": ACTORS[value]} if value in ACTORS else {})
        for value, _, meaning in documented(Reason)
    }
    return f"{REASONS_HEADER}{_literal(types)}{REASONS_MIDDLE}{_literal(reasons)};\n"


TOOLS = Path("portal/src/export/tools.gen.ts")

TOOLS_HEADER = """\
// Generated by tools/gen.py from the gateway's table of tools; do not edit.

/** The arguments of each MCP tool. */
export const TOOLS = """


def tools_module() -> str:
    """What the portal's "copy as MCP call" may name."""
    arguments: Json = {tool.name: list(tool.input_schema["properties"]) for tool in tools("", confirm_deletes=False)}
    return f"{TOOLS_HEADER}{_literal(arguments)} as const;\n"


def _literal(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


# --- the tree ---------------------------------------------------------------------------------------------------------


def generate(root: Path, today: date) -> dict[Path, str]:
    """The text of every generated file, by its path below ``root``."""
    crds = read_crds(root)
    files: dict[Path, str] = {}
    schemas = []
    for crd in crds:
        filename, schema = api_resource_schema(root, crd, today)
        schemas.append(schema)
        text = dump(schema, f"Generated by tools/gen.py from crds/{crd['spec']['names']['plural']}.yaml; do not edit.")
        files |= {folder / filename: text for folder in SCHEMA_FOLDERS}
    manifest = yaml.safe_load((root / "manifest.yaml").read_text(encoding="utf-8"))
    files[Path("manifest-inline.yaml")] = dump(manifest_inline(manifest, schemas), INLINE_HEADER)
    files[Path("docs/api.md")] = api_doc(crds)
    files[Path("docs/conditions.md")] = conditions_doc()
    files[Path("docs/configuration.md")] = configuration_doc()
    files[Path("docs/metrics.md")] = metrics_doc()
    files[REASONS] = reasons_module()
    files[TOOLS] = tools_module()
    return files


def stale(root: Path, files: dict[Path, str]) -> list[Path]:
    """The paths below ``root`` that are missing, that differ, or that have no CRD."""
    changed = {
        path for path, text in files.items() if not (root / path).exists() or (root / path).read_text("utf-8") != text
    }
    found = {path.relative_to(root) for folder in SCHEMA_FOLDERS for path in (root / folder).glob("*.yaml")}
    return sorted(changed | (found - files.keys()))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 and name the files that are stale")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (default: the one this file is in)")
    arguments = parser.parse_args(argv)
    files = generate(arguments.root, datetime.now(UTC).date())
    paths = stale(arguments.root, files)
    if arguments.check:
        for path in paths:
            print(f"stale: {path}", file=sys.stderr)
        return 1 if paths else 0
    for path in paths:
        target = arguments.root / path
        if path in files:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(files[path], encoding="utf-8")
            print(f"wrote {path}")
        else:
            target.unlink()
            print(f"removed {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
