"""tools/gen.py: generated files follow from the CRDs, and --check finds those that do not."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from codecommon.api.kinds import KINDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)
CONNECTIONS = Path("crds/kcp/connections.code.kedge.faros.sh.yaml")


@pytest.fixture(scope="module")
def gen() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen", ROOT / "tools/gen.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is generated from, with nothing generated."""
    (tmp_path / "crds").mkdir()
    for path in (ROOT / "crds").glob("*.yaml"):
        shutil.copy(path, tmp_path / "crds")
    shutil.copy(ROOT / "manifest.yaml", tmp_path)
    return tmp_path


def write(root: Path, files: dict[Path, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def name_in(text: str) -> str:
    return yaml.safe_load(text)["metadata"]["name"]


def edit_crd(root: Path) -> None:
    crd = root / "crds/connections.yaml"
    crd.write_text(crd.read_text().replace("maxLength: 65536", "maxLength: 65537"))


def test_the_repository_is_up_to_date(gen: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert gen.main(["--check"]) == 0, capsys.readouterr().err


def test_a_name_carries_the_day_the_hash_of_the_content_the_resource_and_the_group(gen: ModuleType, tree: Path) -> None:
    schema = yaml.safe_load(gen.generate(tree, MONDAY)[CONNECTIONS])
    name = schema["metadata"]["name"]
    assert re.fullmatch(r"v260302-[0-9a-f]{8}\.connections\.code\.kedge\.faros\.sh", name)
    content = json.dumps(schema["spec"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert name[8:16] == hashlib.sha256(content.encode()).hexdigest()[:8]


def test_generating_again_on_another_day_changes_nothing(gen: ModuleType, tree: Path) -> None:
    monday = gen.generate(tree, MONDAY)
    write(tree, monday)
    assert gen.generate(tree, TUESDAY) == monday
    assert gen.stale(tree, gen.generate(tree, TUESDAY)) == []


def test_a_changed_schema_gets_a_new_hash_and_the_day_of_the_change(gen: ModuleType, tree: Path) -> None:
    monday = gen.generate(tree, MONDAY)
    write(tree, monday)
    edit_crd(tree)
    tuesday = gen.generate(tree, TUESDAY)
    before, after = name_in(monday[CONNECTIONS]), name_in(tuesday[CONNECTIONS])
    assert after.startswith("v260303-")
    assert after[8:16] != before[8:16]
    others = [path for path in monday if path.parent == CONNECTIONS.parent and path != CONNECTIONS]
    assert len(others) == len(KINDS) - 1
    assert all(monday[path] == tuesday[path] for path in others)


def test_check_names_the_files_that_are_stale_and_changes_nothing(
    gen: ModuleType, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(tree)]
    assert gen.main(root) == 0
    assert gen.main([*root, "--check"]) == 0
    edit_crd(tree)
    before = (tree / CONNECTIONS).read_text()
    capsys.readouterr()
    assert gen.main([*root, "--check"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"stale: {path}"
        for path in (
            CONNECTIONS,
            "docs/api.md",
            f"libs/cli/code_provider/schemas/{CONNECTIONS.name}",
            "manifest-inline.yaml",
        )
    ]
    assert (tree / CONNECTIONS).read_text() == before


def test_a_schema_without_its_crd_is_stale_and_removed(
    gen: ModuleType, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = ["--root", str(tree)]
    gen.main(root)
    (tree / "crds/packages.yaml").unlink()
    assert gen.main([*root, "--check"]) == 1
    assert "stale: crds/kcp/packages.code.kedge.faros.sh.yaml" in capsys.readouterr().err
    gen.main(root)
    assert not (tree / "crds/kcp/packages.code.kedge.faros.sh.yaml").exists()
    assert gen.main([*root, "--check"]) == 0


def test_a_missing_file_is_stale(gen: ModuleType, tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(tree)]
    gen.main(root)
    (tree / "manifest-inline.yaml").unlink()
    assert gen.main([*root, "--check"]) == 1
    assert capsys.readouterr().err == "stale: manifest-inline.yaml\n"


def test_a_schema_file_holds_one_document_with_the_schema_of_the_crd(gen: ModuleType, tree: Path) -> None:
    crd = yaml.safe_load((tree / "crds/connections.yaml").read_text())
    (document,) = yaml.safe_load_all(gen.generate(tree, MONDAY)[CONNECTIONS])
    (ours,), (theirs,) = document["spec"]["versions"], crd["spec"]["versions"]
    assert document["apiVersion"] == "apis.kcp.io/v1alpha1"
    assert ours["schema"] == theirs["schema"]["openAPIV3Schema"]
    assert {key: ours[key] for key in theirs if key != "schema"} == {
        key: value for key, value in theirs.items() if key != "schema"
    }


def test_the_inline_manifest_is_the_manifest_with_the_schemas_of_all_kinds(gen: ModuleType, tree: Path) -> None:
    files = gen.generate(tree, MONDAY)
    manifest: dict[str, Any] = yaml.safe_load((tree / "manifest.yaml").read_text())
    inline: dict[str, Any] = yaml.safe_load(files[Path("manifest-inline.yaml")])
    schemas = inline["spec"]["apiExport"].pop("schemas")
    assert inline == manifest
    by_file = {path.stem: yaml.safe_load(text) for path, text in files.items() if path.parent == CONNECTIONS.parent}
    assert {entry["groupResource"]: yaml.safe_load(entry["body"]) for entry in schemas} == by_file
