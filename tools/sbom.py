"""``make sbom``, last step: keeps what is shipped, lists its licences, and fails for one that is not allowed.

Reads ``python.cdx.json`` and ``npm.cdx.json`` of the folder that it is given. Writes ``portal.cdx.json``, which has of the latter
what the bundle contains, and ``licences.txt``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from license_expression import ExpressionError, get_spdx_licensing

REPOSITORY: Final = Path(__file__).resolve().parents[1]

ALLOWED: Final = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "MIT-0",
        # Its own files stay under it; what only uses them does not come under it.
        "MPL-2.0",
        "PSF-2.0",
        "Python-2.0",
        "Unicode-3.0",
        "Unlicense",
        "Zlib",
    }
)

# What packages call a licence without its identifier.
NAMES: Final = {
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "license :: osi approved :: apache software license": "Apache-2.0",
    "bsd license": "BSD-3-Clause",
    "license :: osi approved :: bsd license": "BSD-3-Clause",
    "license :: osi approved :: isc license (iscl)": "ISC",
    "license :: osi approved :: mit license": "MIT",
    "license :: osi approved :: mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "license :: osi approved :: python software foundation license": "PSF-2.0",
    "mit license": "MIT",
}

IN_WORDS: Final = {
    # "3-Clause BSD License" in a field that cyclonedx-py does not read.
    "protobuf": "BSD-3-Clause",
}

_SPDX: Final = get_spdx_licensing()


def is_allowed(expression: str) -> bool:
    """Whether an SPDX expression can be met with allowed licences alone."""
    try:
        parsed = _SPDX.parse(expression, validate=True)
    except ExpressionError:
        return False
    return _met(parsed)


def _met(node: Any) -> bool:
    if node is None:
        return False
    if isinstance(node, _SPDX.OR):
        return any(_met(part) for part in node.args)
    if isinstance(node, _SPDX.AND):
        return all(_met(part) for part in node.args)
    return str(node) in ALLOWED


def licences(component: dict[str, Any]) -> list[str]:
    """The expressions that a component declares. Where it has an identifier, other names of the same licence are left out."""
    exact, named = [], []
    for choice in component.get("licenses", []):
        licence = choice.get("license", {})
        known = choice.get("expression") or licence.get("id")
        if known:
            exact.append(known)
        elif licence.get("name"):
            named.append(NAMES.get(licence["name"].lower(), licence["name"]))
    return sorted(set(exact or named)) or [IN_WORDS[name] for name in (component["name"],) if name in IN_WORDS]


def imported(sources: Iterable[Path]) -> set[str]:
    """The packages that the portal's sources import: all else in its lock only builds and tests it."""
    found = {
        name
        for source in sources
        for name in re.findall(r"""(?:from|import) ["']([^."'][^"']*)["']""", source.read_text())
    }
    return {"/".join(name.split("/")[: 2 if name.startswith("@") else 1]) for name in found}


def reachable(bill: dict[str, Any], roots: set[str]) -> dict[str, Any]:
    """The bill without the components that none of ``roots``, which are names, depends on."""
    uses = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    top = bill["metadata"]["component"]["bom-ref"]
    by_name = {component["bom-ref"]: component["name"] for component in bill["components"]}
    waiting = [ref for ref in uses[top] if by_name.get(ref) in roots]
    if {by_name[ref] for ref in waiting} != roots:
        raise SystemExit(f"sbom: package-lock.json lacks one of {', '.join(sorted(roots))}")
    kept: set[str] = set()
    while waiting:
        ref = waiting.pop()
        if ref not in kept:
            kept.add(ref)
            waiting += uses.get(ref, [])
    return {
        **bill,
        "components": [component for component in bill["components"] if component["bom-ref"] in kept],
        "dependencies": [entry for entry in bill["dependencies"] if entry["ref"] in kept],
    }


def main(folder: Path) -> int:
    python = json.loads((folder / "python.cdx.json").read_text())
    sources = [path for path in (REPOSITORY / "portal" / "src").rglob("*") if path.suffix in (".ts", ".vue")]
    portal = reachable(json.loads((folder / "npm.cdx.json").read_text()), imported(sources))
    (folder / "portal.cdx.json").write_text(json.dumps(portal, indent=2))
    own = {path.parent.name for path in REPOSITORY.glob("services/*/pyproject.toml")} | {"codecommon", "code-provider"}
    lines, refused = [], []
    for origin, bill in (("PyPI", python), ("npm", portal)):
        for component in sorted(bill["components"], key=lambda component: component["name"]):
            declared = licences(component)
            line = f"{origin}  {component['name']} {component['version']}  {' AND '.join(declared) or 'none declared'}"
            lines.append(line)
            if component["name"] not in own and not (declared and all(is_allowed(licence) for licence in declared)):
                refused.append(line)
    (folder / "licences.txt").write_text("".join(f"{line}\n" for line in lines))
    for line in refused:
        print(f"sbom: not an allowed licence: {line}", file=sys.stderr)
    if not refused:
        print(f"{len(lines)} packages, all under allowed licences; bills of materials and licences.txt are in {folder}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
