"""The write tools on a workspace in memory: what they store, what they say, and what they refuse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from jsonschema_rs import Draft202012Validator

from codecommon.api.kinds import COLLABORATORS, DEPLOY_KEYS, REPOSITORIES
from codecommon.api.reasons import ConditionType, Reason
from codecommon.kcp.client import Conflict, Forbidden, Invalid, JsonObject, Objects
from codecommon.testing.builders import (
    DELETED,
    ENDPOINT,
    TOKEN,
    collaborator_object,
    condition,
    connection_object,
    deploy_key_object,
    made_repository,
    repository_object,
)
from codecommon.testing.objects import InMemoryKcp, Request
from gateway.mcp_server.arguments import Arguments
from gateway.mcp_tools import writing
from gateway.mcp_tools.table import tools
from gateway.mcp_tools.tool import Call, Tool, ToolError
from gateway.mcp_tools.write import write_tools

LABEL = "code.kedge.faros.sh/repository"
PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----"
LONGEST = 10.0
"""Seconds after which a test that hangs has failed."""
SOME_READS = 0.5
"""Seconds of patience in which an object is read at least once, on a busy machine, too."""


class Kcp(InMemoryKcp):
    """A kcp that never answers the requests that ``hangs`` picks."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs: Callable[[Request], bool] = lambda request: False

    async def request(self, method: str, url: str, **given: Any) -> JsonObject:
        resource = url.partition("/v1alpha1/")[2].split("/")[0]
        if self.hangs(Request(method, "c1", resource)):
            await asyncio.Event().wait()
        return await super().request(method, url, **given)


@pytest.fixture
def kcp(monkeypatch: pytest.MonkeyPatch) -> Kcp:
    monkeypatch.setattr(writing, "_FIRST_PAUSE", 0.001)
    kcp = Kcp()
    kcp.add(connection_object("main", owner="octocat"))
    return kcp


async def run(
    kcp: InMemoryKcp,
    tool_name: str,
    /,
    *,
    user: str = "",
    client: str = "",
    confirm_deletes: bool = False,
    patience: float = 0.02,
    **arguments: Any,
) -> dict[str, Any]:
    """Call a tool as the endpoint does. Raises ``ToolError`` for its arguments, and fails if the output breaks its schema."""
    tool = next(t for t in write_tools(confirm_deletes=confirm_deletes, patience=patience) if t.name == tool_name)
    Arguments(tool).require_valid(arguments)
    call = Call(Objects(kcp, f"{ENDPOINT}/clusters/c1"), arguments, user, client)
    output = orjson.loads(orjson.dumps(await asyncio.wait_for(tool.handler(call), LONGEST)))
    Draft202012Validator(tool.output_schema).validate(output)
    return output


def stored(kcp: InMemoryKcp, resource: str, name: str) -> JsonObject:
    raw = kcp.stored(resource, name)
    assert raw is not None
    return raw


def on_get(kcp: InMemoryKcp, resource: str, act: Callable[[], object]) -> None:
    kcp.once(lambda r: r.method == "GET" and r.resource == resource and r.name is not None, act)


def says(kcp: InMemoryKcp, resource: str, name: str, *conditions: JsonObject, **status: Any) -> None:
    """The provider reports on the object before it is read next."""
    patch = {"status": {"observedGeneration": 1, "conditions": list(conditions), **status}}
    on_get(kcp, resource, lambda: kcp.edit(resource, name, patch))


READY = condition(ConditionType.READY, "True", Reason.RECONCILED)

ARGUMENTS: dict[str, dict[str, Any]] = {
    "create_connection": {"name": "new", "owner": "octocat", "secretName": "credential"},
    "create_repository": {
        "name": "new",
        "connectionRef": "main",
        "deployKeys": [{}],
        "collaborators": [{"username": "bob"}],
    },
    "delete_repository": {"name": "site"},
    "add_deploy_key": {"name": "new", "repositoryRef": "site"},
    "delete_deploy_key": {"name": "key"},
    "add_collaborator": {"name": "new", "repositoryRef": "site", "username": "bob"},
    "remove_collaborator": {"name": "alice"},
}
TOOLS = list(ARGUMENTS)


def populate(kcp: InMemoryKcp) -> None:
    kcp.add(made_repository(repo_id="7"))
    made = {"origin": "Created", "host": "git.example", "observedGeneration": 1}
    kcp.add(deploy_key_object(metadata={"finalizers": [DEPLOY_KEYS.finalizer]}, status={**made, "keyID": "1"}))
    kcp.add(collaborator_object(permission="push", metadata={"finalizers": [COLLABORATORS.finalizer]}, status=made))


# ---- the table


def test_the_table_has_the_go_providers_inputs_and_annotations() -> None:
    go: dict[str, tuple[set[str], set[str]]] = {
        "create_connection": (
            {"name", "owner", "secretName"},
            {"provider", "secretNamespace", "secretKey", "baseURL"},
        ),
        "create_repository": (
            {"name", "connectionRef"},
            {"repo", "owner", "visibility", "description", "defaultBranch", "autoInit"},
        ),
        "delete_repository": ({"name"}, set()),
        "add_deploy_key": ({"name", "repositoryRef"}, {"title", "publicKey", "readOnly"}),
        "add_collaborator": ({"name", "repositoryRef", "username"}, {"permission"}),
        "remove_collaborator": ({"name"}, set()),
    }
    added = {"create_repository": {"deployKeys", "collaborators"}, "delete_repository": {"confirm"}}
    tools = {tool.name: tool for tool in write_tools()}
    assert set(tools) == {*go, "delete_deploy_key"}
    for name, (required, optional) in go.items():
        schema = tools[name].input_schema
        assert set(schema["required"]) == required
        assert set(schema["properties"]) == required | optional | added.get(name, set()) | {"plan"}
    adds, deletes = {"destructiveHint": False, "openWorldHint": True}, {"destructiveHint": True}
    for tool in write_tools():
        assert tool.annotations == (deletes if tool.name.startswith(("delete", "remove")) else adds)
        assert not tool.is_read_only


@pytest.mark.parametrize("tool", write_tools(), ids=lambda tool: tool.name)
def test_every_tool_and_every_property_is_described_and_closed(tool: Any) -> None:
    assert tool.title
    assert tool.description
    for schema in (tool.input_schema, tool.output_schema):
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert all(p.get("description") for p in schema["properties"].values())


# ---- what is stored


async def test_a_connection_refers_to_its_secret_and_is_a_pat_of_github(kcp: Kcp) -> None:
    await run(kcp, "create_connection", name="new", owner="octocat", secretName="credential")
    assert stored(kcp, "connections", "new")["spec"] == {
        "provider": "github",
        "type": "pat",
        "owner": "octocat",
        "secretRef": {"name": "credential"},
    }


async def test_a_connection_takes_what_is_said_of_its_secret_and_host(kcp: Kcp) -> None:
    await run(
        kcp,
        "create_connection",
        name="new",
        owner="acme",
        secretName="s",
        secretNamespace="ns",
        secretKey="pat",
        baseURL="https://ghe.example",
    )
    spec = stored(kcp, "connections", "new")["spec"]
    assert spec["secretRef"] == {"name": "s", "namespace": "ns", "key": "pat"}
    assert spec["baseURL"] == "https://ghe.example"


@pytest.mark.parametrize(
    ("given", "spec"),
    [
        ({}, {"name": "new", "autoInit": True}),
        ({"autoInit": None}, {"name": "new", "autoInit": True}),
        ({"autoInit": False, "repo": "Site.js"}, {"name": "Site.js", "autoInit": False}),
        (
            {"owner": "acme", "visibility": "public", "description": "d", "defaultBranch": "trunk"},
            {
                "name": "new",
                "autoInit": True,
                "owner": "acme",
                "visibility": "public",
                "description": "d",
                "defaultBranch": "trunk",
            },
        ),
    ],
)
async def test_a_repository_has_the_go_providers_defaults(kcp: Kcp, given: JsonObject, spec: JsonObject) -> None:
    output = await run(kcp, "create_repository", name="new", connectionRef="main", **given)
    assert stored(kcp, "repositories", "new")["spec"] == {"connectionRef": "main", **spec}
    assert (output["name"], output["kind"], output["created"]) == ("new", "Repository", True)
    assert "deployKeys" not in output


@pytest.mark.parametrize(("given", "wanted"), [({}, True), ({"readOnly": True}, True), ({"readOnly": False}, False)])
async def test_a_deploy_key_may_only_read_unless_it_is_said(kcp: Kcp, given: JsonObject, wanted: bool) -> None:
    await run(kcp, "add_deploy_key", name="new", repositoryRef="site", **given)
    raw = stored(kcp, "deploykeys", "new")
    assert raw["spec"] == {"repositoryRef": "site", "readOnly": wanted}
    assert raw["metadata"]["labels"] == {LABEL: "site"}


@pytest.mark.parametrize(("given", "wanted"), [({}, "pull"), ({"permission": "admin"}, "admin")])
async def test_a_collaborator_may_pull_unless_it_is_said(kcp: Kcp, given: JsonObject, wanted: str) -> None:
    await run(kcp, "add_collaborator", name="new", repositoryRef="site", username="bob", **given)
    raw = stored(kcp, "collaborators", "new")
    assert raw["spec"] == {"repositoryRef": "site", "username": "bob", "permission": wanted}
    assert raw["metadata"]["labels"] == {LABEL: "site"}


async def test_a_label_is_not_longer_than_labels_may_be(kcp: Kcp) -> None:
    labels: list[str] = []
    for name in ("a" * 63, "a" * 64, "a" * 65):
        await run(kcp, "add_deploy_key", name=f"k{len(name)}", repositoryRef=name)
        labels.append(stored(kcp, "deploykeys", f"k{len(name)}")["metadata"]["labels"][LABEL])
    assert labels[0] == "a" * 63
    assert all(len(label) == 63 and label.startswith("a" * 54 + "-") for label in labels[1:])
    assert labels[1] != labels[2]


@pytest.mark.parametrize(
    ("user", "client", "by", "using"),
    [
        ("alice@example.com", "some-agent", "alice@example.com (unverified)", "some-agent (unverified)"),
        ("", "", "service account through the aggregate (unverified)", "unknown client (unverified)"),
        ("al\u202eice\nx", "c" * 5000 + " y", "alice x (unverified)", "… (unverified)"),
    ],
)
async def test_an_object_says_who_asked_for_it_and_that_nobody_verified_that(
    kcp: Kcp, user: str, client: str, by: str, using: str
) -> None:
    given = ARGUMENTS["create_repository"]
    await run(kcp, "create_repository", user=user, client=client, **given)
    for resource, name in (("repositories", "new"), ("deploykeys", "new-key"), ("collaborators", "new-bob")):
        annotations = stored(kcp, resource, name)["metadata"]["annotations"]
        assert annotations["code.kedge.faros.sh/requested-by"] == by
        assert annotations["code.kedge.faros.sh/requested-with"] == using


@pytest.mark.parametrize("tool", ["create_connection", "create_repository", "add_deploy_key", "add_collaborator"])
async def test_to_create_what_exists_fails_and_creates_nothing_else(kcp: Kcp, tool: str) -> None:
    kcp.add(repository_object("new"))
    kcp.add(connection_object("new"))
    kcp.add(deploy_key_object("new"))
    kcp.add(collaborator_object("new"))
    with pytest.raises(Conflict):
        await run(kcp, tool, **ARGUMENTS[tool])
    assert kcp.stored("deploykeys", "new-key") is None


# ---- credentials


@pytest.mark.parametrize("secret", [TOKEN, "github_pat_" + "a1" * 20, "ab" * 20, PRIVATE_KEY, f"x {TOKEN}"])
async def test_a_token_as_the_name_of_the_secret_is_refused_and_repeated_nowhere(
    kcp: Kcp, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ToolError) as refused:
        await run(kcp, "create_connection", name="new", owner="octocat", secretName=secret)
    assert "secretName" in str(refused.value)
    assert "Secret of the workspace" in str(refused.value)
    error: BaseException | None = refused.value
    while error is not None:
        assert secret not in repr(error)
        error = error.__cause__ or error.__context__
    assert secret not in caplog.text
    assert kcp.requests == []


@pytest.mark.parametrize(
    ("tool", "given", "path"),
    [
        ("create_connection", {"baseURL": f"https://u:{TOKEN}@ghe.example"}, "baseURL"),
        ("create_repository", {"description": f"made with {TOKEN}"}, "description"),
        ("create_repository", {"deployKeys": [{}, {"publicKey": PRIVATE_KEY}]}, "deployKeys[1].publicKey"),
        ("add_deploy_key", {"publicKey": PRIVATE_KEY}, "publicKey"),
        ("add_collaborator", {"username": TOKEN}, "username"),
        ("delete_repository", {"confirm": TOKEN}, "confirm"),
    ],
)
async def test_a_token_in_any_argument_is_refused_by_its_place(
    kcp: Kcp, tool: str, given: JsonObject, path: str
) -> None:
    with pytest.raises(ToolError) as refused:
        await run(kcp, tool, **ARGUMENTS[tool] | given)
    assert f"The argument {path} " in str(refused.value)
    assert TOKEN not in str(refused.value)
    assert kcp.requests == []


@pytest.mark.parametrize("tool", tools("default", confirm_deletes=False), ids=lambda tool: tool.name)
@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"token": TOKEN}, "The argument token "),
        ({"token": "ab" * 20}, "The argument token "),
        ({"options": {"password": "hunter2"}}, "The argument options.password "),
        ({"name": {"value": [TOKEN]}}, "The argument name.value[0] "),
        ({TOKEN: "x"}, "The name of an argument "),
        ({"x" * 1000: {TOKEN: "x"}}, "The argument "),
    ],
)
def test_a_token_is_looked_for_before_anything_else_in_every_tool(tool: Tool, given: JsonObject, place: str) -> None:
    with pytest.raises(ToolError) as refused:
        Arguments(tool).require_valid(given)
    assert str(refused.value).startswith(place)
    assert "should be revoked" in str(refused.value)
    assert not any(secret in str(refused.value) for secret in (TOKEN, "ab" * 20, "hunter2"))


async def test_more_text_than_can_be_looked_at_at_once_is_refused(kcp: Kcp) -> None:
    long = "token " * 6000
    with pytest.raises(ToolError, match="at most 65536"):
        await run(
            kcp, "create_repository", name="new", connectionRef="main", deployKeys=[{"title": long}, {"title": long}]
        )
    assert kcp.requests == []


async def test_a_public_key_is_no_secret(kcp: Kcp) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKaXOT9H6Ql0p6sCuNrL3MeuCXBSAvJFb4iYdpUnAq0x me@example.com"
    await run(kcp, "add_deploy_key", name="new", repositoryRef="site", publicKey=key, title="CI")
    assert stored(kcp, "deploykeys", "new")["spec"]["publicKey"] == key


# ---- plan


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_plan_changes_nothing_and_says_what_would_happen(kcp: Kcp, tool: str) -> None:
    populate(kcp)
    names = [("repositories", "site"), ("deploykeys", "key"), ("collaborators", "alice")]
    before = [kcp.stored(*name) for name in names]
    output = await run(kcp, tool, plan=True, **ARGUMENTS[tool])
    assert "Nothing was changed." in output["plan"]
    assert output.get("created", output.get("deleted")) is False
    assert [kcp.stored(*name) for name in names] == before
    for resource in ("connections", "repositories", "deploykeys", "collaborators"):
        assert kcp.stored(resource, "new") is None
    writes = [r for r in kcp.requests if r.writes]
    assert writes
    assert all(r.params.get("dryRun") == "All" or r.body.get("dryRun") == ["All"] for r in writes)


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("create_repository", "would gain the private repository octocat/new, with a first commit"),
        (
            "add_deploy_key",
            "octocat/site would gain a deploy key (a key pair that the provider generates) that may only read",
        ),
        ("add_collaborator", "octocat/site would gain user bob with permission pull"),
        ("delete_deploy_key", "The deploy key is removed from octocat/site"),
        ("remove_collaborator", "The access of user alice to octocat/site is withdrawn"),
        ("delete_repository", "octocat/site is deleted on the host"),
        ("create_connection", "would gain and lose nothing"),
    ],
)
async def test_a_plan_names_what_the_host_would_gain_or_lose(kcp: Kcp, tool: str, words: str) -> None:
    populate(kcp)
    assert words in (await run(kcp, tool, plan=True, **ARGUMENTS[tool]))["plan"]


async def test_a_plan_is_refused_where_the_write_would_be(kcp: Kcp) -> None:
    kcp.add(repository_object("new"))
    with pytest.raises(Conflict):
        await run(kcp, "create_repository", plan=True, **ARGUMENTS["create_repository"])


async def test_a_plan_says_that_the_connection_or_the_repository_is_missing(kcp: Kcp) -> None:
    output = await run(kcp, "create_repository", name="new", connectionRef="absent", plan=True)
    assert "There is no Connection absent" in output["plan"]
    output = await run(kcp, "add_deploy_key", name="new", repositoryRef="absent", plan=True)
    assert "There is no Repository object absent" in output["plan"]

    assert output["plan"].endswith(
        "this would wait for it. Its repository would gain a deploy key (a key pair that the "
        "provider generates) that may only read. Nothing was changed."
    )


async def test_a_plan_says_what_a_deletion_would_wait_for(kcp: Kcp) -> None:
    populate(kcp)
    kcp.add(deploy_key_object("other", repositoryRef="elsewhere"))
    plan = (await run(kcp, "delete_repository", name="site", plan=True))["plan"]
    assert "waits until these are deleted, too: DeployKey key, Collaborator alice." in plan


async def test_a_plan_says_that_more_hold_the_repository_than_it_names(kcp: Kcp) -> None:
    kcp.add(made_repository(repo_id="7"))
    for number in range(10):
        kcp.add(deploy_key_object(f"key-{number:02}"))
    plan = (await run(kcp, "delete_repository", name="site", plan=True))["plan"]
    assert "DeployKey key-09. Nothing was changed." in plan
    for number in range(10, 25):
        kcp.add(deploy_key_object(f"key-{number:02}"))
    plan = (await run(kcp, "delete_repository", name="site", plan=True))["plan"]
    assert "DeployKey key-09, and more." in plan
    assert "key-10" not in plan


DELETING = {"deletionTimestamp": DELETED, "finalizers": [REPOSITORIES.finalizer]}
MADE: JsonObject = {"origin": "Created", "host": "git.example"}


@pytest.mark.parametrize(
    ("spec", "status", "repository", "words"),
    [
        ({}, MADE, None, "{what} stays on the host, because its Repository object is gone."),
        ({"deletionPolicy": "Delete"}, MADE, None, "{what} stays on the host, because its Repository object is gone."),
        ({}, {}, made_repository(repo_id="7"), "{what} is not recorded to be on the host. If it is being made there"),
        ({}, {}, None, "{what} is not recorded to be on the host. Nothing is removed there."),
        (
            {},
            MADE,
            made_repository(repo_id="7", metadata=DELETING),
            "{what} goes with octocat/site, which is being deleted on the host.",
        ),
        (
            {},
            MADE,
            repository_object(metadata=DELETING, status={"repoID": "7", "origin": "Adopted", "owner": "octocat"}),
            "octocat/site",
        ),
        ({}, MADE, repository_object(), "because its Repository object stands for no repository there."),
        ({"deletionPolicy": "Orphan"}, MADE, made_repository(repo_id="7"), "{what} stays on the host (octocat/site)"),
        ({}, {**MADE, "origin": "Adopted"}, made_repository(repo_id="7"), "because it was there before the object."),
        (
            {},
            {"keyID": "1", "invitationID": "1"},
            made_repository(repo_id="7"),
            "as far as the host shows it, unless it was there before the object.",
        ),
    ],
)
@pytest.mark.parametrize("tool", ["delete_deploy_key", "remove_collaborator"])
async def test_a_plan_says_what_becomes_of_the_access(
    kcp: Kcp, tool: str, spec: JsonObject, status: JsonObject, repository: JsonObject | None, words: str
) -> None:
    is_key = tool == "delete_deploy_key"
    kcp.add((deploy_key_object if is_key else collaborator_object)("x", status=status, **spec))
    if repository is not None:
        kcp.add(repository)
    plan = (await run(kcp, tool, name="x", plan=True))["plan"]
    assert words.format(what="The deploy key" if is_key else "The access of user alice") in plan
    assert "There is no" not in plan


@pytest.mark.parametrize("tool", ["delete_deploy_key", "remove_collaborator"])
async def test_what_is_of_an_unknown_form_can_be_deleted(kcp: Kcp, tool: str) -> None:
    populate(kcp)
    for resource, name in (("deploykeys", "key"), ("collaborators", "alice"), ("repositories", "site")):
        kcp.edit(resource, name, {"status": {"origin": "Somebody"}})
    output = await run(kcp, tool, **ARGUMENTS[tool])
    assert output["deleted"] is True
    assert "cannot be said" in output["message"]


# ---- deleting


@pytest.mark.parametrize("tool", ["delete_repository", "delete_deploy_key", "remove_collaborator"])
@pytest.mark.parametrize("name", ["absent", "No/../Name"])
async def test_to_delete_what_is_not_there_succeeds(kcp: Kcp, tool: str, name: str) -> None:
    output = await run(kcp, tool, name=name, confirm_deletes=True)
    assert output["deleted"] is False
    assert "nothing was deleted" in output["message"]


@pytest.mark.parametrize(
    ("tool", "resource", "name"),
    [
        ("delete_repository", "repositories", "site"),
        ("delete_deploy_key", "deploykeys", "key"),
        ("remove_collaborator", "collaborators", "alice"),
    ],
)
async def test_a_deletion_is_waited_for(kcp: Kcp, tool: str, resource: str, name: str) -> None:
    populate(kcp)

    def clean_up() -> None:
        if "deletionTimestamp" in stored(kcp, resource, name)["metadata"]:
            kcp.edit(resource, name, {"metadata": {"finalizers": []}})

    kcp.before.append(lambda request: clean_up() if kcp.stored(resource, name) else None)
    output = await run(kcp, tool, name=name, patience=LONGEST)
    assert (output["deleted"], output["gone"]) == (True, True)
    assert kcp.stored(resource, name) is None


def on_deletion(kcp: InMemoryKcp, *conditions: JsonObject) -> None:
    """The provider reports on ``site`` once it is being deleted."""

    def report(request: Request) -> None:
        raw = stored(kcp, "repositories", "site")
        if "deletionTimestamp" in raw["metadata"]:
            status = {"observedGeneration": raw["metadata"]["generation"], "conditions": list(conditions)}
            kcp.edit("repositories", "site", {"status": status})

    kcp.before.append(report)


async def test_a_deletion_that_takes_longer_says_what_it_waits_for(kcp: Kcp) -> None:
    populate(kcp)
    on_deletion(kcp, condition(ConditionType.RECONCILING, "True", "Waiting", "DeployKey key\u200b holds it"))
    output = await run(kcp, "delete_repository", name="site", patience=SOME_READS)
    assert (output["deleted"], output["gone"]) == (True, False)
    assert "Waiting: DeployKey key holds it." in output["message"]
    assert "waits until these are deleted, too: DeployKey key, Collaborator alice." in output["message"]


async def test_an_edit_before_the_deletion_is_decided_upon(kcp: Kcp) -> None:
    kcp.add(repository_object(status={"repoID": "7", "origin": "Created"}, deletionPolicy="Orphan"))
    edit = {"spec": {"deletionPolicy": "Delete"}}
    kcp.once(lambda r: r.method == "DELETE", lambda: kcp.edit("repositories", "site", edit))
    output = await run(kcp, "delete_repository", name="site")
    assert "octocat/site is deleted on the host" in output["message"]
    assert len(kcp.writes("repositories")) == 2


async def test_a_deletion_of_what_others_keep_changing_is_given_up(kcp: Kcp) -> None:
    kcp.add(repository_object())
    edits = iter(range(9))
    kcp.before.append(
        lambda r: (
            kcp.edit("repositories", "site", {"spec": {"description": f"{next(edits)}"}}) and None
            if r.method == "DELETE"
            else None
        )
    )
    with pytest.raises(Conflict):
        await run(kcp, "delete_repository", name="site")
    assert len(kcp.writes("repositories")) == 2


async def test_nobody_waits_for_a_deletion_that_needs_a_person(kcp: Kcp) -> None:
    populate(kcp)
    on_deletion(kcp, condition(ConditionType.STALLED, "True", Reason.CREDENTIAL_REJECTED, "401"))
    output = await run(kcp, "delete_repository", name="site", patience=2 * LONGEST)
    assert (output["deleted"], output["gone"]) == (True, False)
    assert "CredentialRejected: 401" in output["message"]


async def test_what_was_said_before_a_deletion_is_not_its_result(kcp: Kcp) -> None:
    populate(kcp)
    stalled = condition(ConditionType.STALLED, "True", Reason.VALIDATION_FAILED, "an old story")
    kcp.edit("repositories", "site", {"status": {"conditions": [stalled]}})
    output = await run(kcp, "delete_repository", name="site", patience=SOME_READS)
    assert output["gone"] is False
    assert "an old story" not in output["message"]


@pytest.mark.parametrize(
    ("spec", "status", "words"),
    [
        ({}, {"repoID": "7", "origin": "Created"}, "is deleted on the host"),
        ({}, {"repoID": "7", "origin": "Adopted"}, "stays on the host, because it was there before"),
        ({}, {"repoID": "7"}, "deleted if this API created it, and stays if it was there before"),
        (
            {"deletionPolicy": "Delete"},
            {"repoID": "7"},
            "The provider looks at the host first: octocat/site is deleted.",
        ),
        ({"deletionPolicy": "Delete"}, {"repoID": "7", "origin": "Adopted"}, "is deleted on the host"),
        ({"deletionPolicy": "Archive"}, {"repoID": "7", "origin": "Created"}, "is archived on the host"),
        (
            {"deletionPolicy": "Orphan"},
            {"repoID": "7", "origin": "Created"},
            "stays on the host, because deletionPolicy",
        ),
        (
            {"adoptionPolicy": "Observe"},
            {"repoID": "7", "origin": "Created"},
            "stays on the host, because adoptionPolicy",
        ),
        ({}, None, "No repository is recorded"),
    ],
)
async def test_a_plan_says_whether_the_repository_goes_too(
    kcp: Kcp, spec: JsonObject, status: JsonObject | None, words: str
) -> None:
    kcp.add(repository_object(status=status, **spec))
    assert words in (await run(kcp, "delete_repository", name="site", plan=True))["plan"]


async def test_where_confirm_is_required_nothing_goes_without_it(kcp: Kcp) -> None:
    populate(kcp)
    with pytest.raises(ToolError) as refused:
        await run(kcp, "delete_repository", name="site", confirm_deletes=True)
    assert "octocat/site is deleted on the host" in str(refused.value)
    assert "confirm: octocat/site" in str(refused.value)
    assert kcp.writes("repositories") == []
    output = await run(kcp, "delete_repository", name="site", confirm_deletes=True, confirm="Octocat/site")
    assert output["deleted"] is True


@pytest.mark.parametrize("confirm", ["octocat/other", "site", ""])
async def test_another_repositorys_name_is_no_confirmation(kcp: Kcp, confirm: str) -> None:
    populate(kcp)
    with pytest.raises(ToolError, match="octocat/site"):
        await run(kcp, "delete_repository", name="site", confirm=confirm)
    assert kcp.writes("repositories") == []


async def test_the_table_is_made_with_or_without_the_duty_to_confirm() -> None:
    by_default, strict = write_tools(), write_tools(confirm_deletes=True)
    words = "requires confirm"
    assert [words in t.description for t in strict] == [t.name == "delete_repository" for t in strict]
    assert not any(words in t.description for t in by_default)


# ---- one call for all


async def test_one_call_makes_keys_and_collaborators_and_reports_each(kcp: Kcp) -> None:
    kcp.add(collaborator_object("new-alice"))
    long = "x" * 400
    kcp.once(
        lambda r: r.method == "POST" and r.body["spec"].get("title") == "bad",
        lambda: (_ for _ in ()).throw(Invalid(422, "Invalid", f"spec.title: {TOKEN} \u202eis bad {long} {long}")),
    )
    output = await run(
        kcp,
        "create_repository",
        name="new",
        connectionRef="main",
        deployKeys=[{}, {}, {"title": "CI Server", "readOnly": False}, {"title": "bad", "name": "named"}],
        collaborators=[{"username": "alice"}, {"username": "Bob_X", "permission": "push"}],
    )
    assert output["created"] is True
    assert [(k["name"], k["created"]) for k in output["deployKeys"]] == [
        ("new-key", True),
        ("new-key-2", True),
        ("new-ci-server", True),
        ("named", False),
    ]
    assert [(c["name"], c["created"]) for c in output["collaborators"]] == [("new-alice", False), ("new-bob-x", True)]
    bad = output["deployKeys"][3]["message"]
    assert "422" in bad
    assert "is bad" in bad
    assert TOKEN not in bad
    assert "\u202e" not in bad
    assert len(bad) < 700
    assert "already exists" in output["collaborators"][0]["message"]
    assert stored(kcp, "deploykeys", "new-ci-server")["spec"]["readOnly"] is False
    assert stored(kcp, "collaborators", "new-bob-x")["spec"]["username"] == "Bob_X"


async def test_without_the_repository_no_child_is_made(kcp: Kcp) -> None:
    kcp.refused.add("repositories")
    with pytest.raises(Forbidden):
        await run(kcp, "create_repository", **ARGUMENTS["create_repository"])
    assert kcp.writes("deploykeys") == kcp.writes("collaborators") == []


# ---- waiting


async def test_a_result_is_waited_for(kcp: Kcp) -> None:
    says(kcp, "repositories", "new", READY, htmlURL="https://github.com/octocat/new")
    output = await run(kcp, "create_repository", name="new", connectionRef="main", patience=LONGEST)
    assert output["ready"] is True
    assert output["htmlURL"] == "https://github.com/octocat/new"


async def test_a_successor_is_not_reported_as_what_was_made(kcp: Kcp) -> None:
    def replace() -> None:
        kcp.remove("repositories", "new")
        kcp.add(made_repository("new", repo_id="8"))

    on_get(kcp, "repositories", replace)
    output = await run(kcp, "create_repository", name="new", connectionRef="main", patience=LONGEST)
    assert (output["created"], output["ready"]) == (True, False)
    assert "somebody deleted it" in output["message"]


async def test_who_adds_a_key_is_told_the_secret_of_its_pair(kcp: Kcp) -> None:
    says(kcp, "deploykeys", "new", READY, secretRef={"name": "deploykey-new", "namespace": "default"})
    output = await run(kcp, "add_deploy_key", name="new", repositoryRef="site", patience=LONGEST)
    assert (output["ready"], output["secretName"], output["secretNamespace"]) == (True, "deploykey-new", "default")


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        (
            [
                condition(ConditionType.READY, "False", Reason.USER_NOT_FOUND, "no such user"),
                condition(ConditionType.STALLED, "True", Reason.USER_NOT_FOUND, "no such user"),
            ],
            "UserNotFound: no such user",
        ),
        ([condition(ConditionType.READY, "False", Reason.INVITATION_PENDING, "invited")], "InvitationPending: invited"),
    ],
)
async def test_nobody_waits_for_what_a_person_has_to_do(kcp: Kcp, conditions: list[JsonObject], words: str) -> None:
    says(kcp, "collaborators", "new", *conditions)
    output = await run(kcp, "add_collaborator", patience=2 * LONGEST, **ARGUMENTS["add_collaborator"])
    assert output["ready"] is False
    assert words in output["message"]
    assert "Somebody has to act" in output["message"]


async def test_what_an_older_generation_was_is_no_result(kcp: Kcp) -> None:
    patch = {"status": {"observedGeneration": 0, "conditions": [READY]}}
    on_get(kcp, "repositories", lambda: kcp.edit("repositories", "new", patch))
    output = await run(kcp, "create_repository", name="new", connectionRef="main", patience=SOME_READS)
    assert output["ready"] is False


async def test_what_is_pending_is_said_in_the_providers_words(kcp: Kcp) -> None:
    waiting = condition(ConditionType.RECONCILING, "True", Reason.REPOSITORY_NOT_READY, "not on the host yet")
    kcp.before.append(
        lambda r: kcp.edit("deploykeys", "new", {"status": {"conditions": [waiting]}}) and None if r.name else None
    )
    output = await run(kcp, "add_deploy_key", name="new", repositoryRef="site", patience=SOME_READS)
    assert (output["created"], output["ready"]) == (True, False)
    assert "still working on it. The provider says: RepositoryNotReady: not on the host yet." in output["message"]


async def test_the_wait_ends_though_kcp_does_not_answer(kcp: Kcp) -> None:
    kcp.hangs = lambda r: r.method == "GET"
    output = await run(kcp, "create_repository", name="new", connectionRef="main")
    assert (output["created"], output["ready"]) == (True, False)
    assert writing.PATIENCE_SECONDS <= 5


async def test_a_child_that_kcp_does_not_answer_hides_nothing_of_the_rest(
    kcp: Kcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_WRITES_END", SOME_READS)
    kcp.hangs = lambda r: r.method == "POST" and r.resource == "deploykeys"
    output = await run(kcp, "create_repository", **ARGUMENTS["create_repository"])
    assert output["created"] is True
    assert output["deployKeys"][0]["created"] is False
    assert "not known whether" in output["deployKeys"][0]["message"]
    assert output["collaborators"][0]["created"] is True
    output = await run(kcp, "create_repository", plan=True, **ARGUMENTS["create_repository"] | {"name": "other"})
    assert "there is no plan for it. Nothing was changed." in output["deployKeys"][0]["message"]


async def test_who_may_write_and_not_read_is_told_that_the_write_is_done(kcp: Kcp) -> None:
    def refuse(request: Request) -> None:
        if request.method == "GET":
            raise Forbidden(403, "Forbidden", "no")

    kcp.before.append(refuse)
    output = await run(kcp, "add_collaborator", patience=LONGEST, **ARGUMENTS["add_collaborator"])
    assert (output["created"], output["ready"]) == (True, False)
    assert "kcp stored the change" in output["message"]


async def test_what_the_provider_says_is_bounded_and_visible(kcp: Kcp) -> None:
    message = f"host said: {TOKEN} gh\u200bp_{'c' * 36} \u202e\U000e0041\ufe0f\x1b[31m " + "word " * 2000
    says(
        kcp,
        "repositories",
        "new",
        condition(ConditionType.STALLED, "True", Reason.VALIDATION_FAILED, message),
    )
    output = await run(kcp, "create_repository", name="new", connectionRef="main", patience=LONGEST)
    said = output["message"]
    assert "host said: <redacted> <redacted>" in said
    assert said.isprintable()
    assert len(said) < 700
