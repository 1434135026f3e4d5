"""What the documents name is there: targets of make, files, tests, subcommands and alerts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from code_provider.__main__ import USAGE

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md"), ROOT / "portal/README.md")
)
CHART = ROOT / "deploy/helm/kedge-code-provider"

RUN_BY_TESTS = {
    "make demo": ".github/workflows",
    "make test": ".ci/run",
    "code-provider doctor": "tests/e2e/test_doctor.py",
}
"""Commands in fenced blocks, and what runs them. Any other command has "not run by a test" in the paragraph after its block."""

OF_AN_EXAMPLE = {"libs/cli/code_provider/schemas/notes.code.kedge.faros.sh.yaml"}
"""What the kind of docs/adding-a-kind.md would add."""


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_target_of_make_that_a_document_names_exists(document: str) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"`make ([a-z0-9-]+)", text_of(document))) - targets == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_file_that_a_document_names_exists(document: str) -> None:
    text = text_of(document)
    named = set(re.findall(r"`((?:tests|docs|deploy|libs|services|portal|tools)/[\w./-]+\.\w+)`", text))
    linked = set(re.findall(r"\]\(([\w./-]+)(?:#[^)]*)?\)", text))
    missing = {path for path in named - OF_AN_EXAMPLE if not (ROOT / path).exists()}
    missing |= {link for link in linked if not ((ROOT / document).parent / link).exists()}
    assert missing == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_subcommand_that_a_document_names_exists(document: str) -> None:
    known = set(re.findall(r"^  ([a-z-]+) ", USAGE, re.M)) | set(re.findall(r"[a-z-]+", USAGE.rpartition(":")[2]))
    named = set(re.findall(r"`code-provider ([a-z-]+)", text_of(document)))
    assert named - known == set()


@pytest.mark.parametrize("document", ["README.md", "docs/operations.md", "docs/security.md", "CONTRIBUTING.md"])
def test_a_command_in_a_block_is_run_by_a_test_or_said_not_to_be(document: str) -> None:
    blocks = re.findall(r"^```(?:sh|console)?\n(.*?)^```\n\s*(.*?)(?=\n\n|\Z)", text_of(document), re.M | re.S)
    for block, after in blocks:
        commands = [
            line for line in block.splitlines() if re.match(r"(make|code-provider|kubectl|helm|docker|[A-Z_]+=)", line)
        ]
        for command in commands:
            run_by = RUN_BY_TESTS.get(command)
            if run_by is None:
                assert "not run by a test" in " ".join(after.split()).lower(), command
            else:
                assert (ROOT / run_by).exists(), command


def test_each_alert_has_a_paragraph_and_each_paragraph_an_alert() -> None:
    rules = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    headings = set(re.findall(r"^### (Code\w+)$", text_of("docs/operations.md"), re.M))
    assert headings == alerts
