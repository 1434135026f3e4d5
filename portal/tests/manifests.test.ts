import { expect, test } from "vitest";
import { labelOf, objectName, safeUrl } from "../src/api/objects";
import { deleteCallOf, manifestOf, manifestOfObject, tokenManifestOf, toolCallOf, toolCallText } from "../src/export/manifests";
import { TOOLS } from "../src/export/tools.gen";
import { toYaml } from "../src/export/yaml";
import { collaborator, connection, deployKey, packageOf, repository } from "./objects";

test("an object as YAML is what one would keep in Git of it", () => {
  expect(toYaml(manifestOfObject("DeployKey", deployKey(), "website"))).toBe(
    [
      "apiVersion: code.kedge.faros.sh/v1alpha1",
      "kind: DeployKey",
      "metadata:",
      "  name: website-ci",
      "  labels:",
      "    code.kedge.faros.sh/repository: website",
      "spec:",
      "  repositoryRef: website",
      "  title: ci",
      "  readOnly: true",
      "",
    ].join("\n"),
  );
});

test.each([
  ["Connection", connection(), { name: "create_connection", arguments: { name: "acme", provider: "github", owner: "acme", secretName: "acme-token" }, leftOut: [] }],
  [
    "Repository",
    repository("website", { spec: { deletionPolicy: "Orphan", name: "Web.Site" } }),
    {
      name: "create_repository",
      arguments: { name: "website", connectionRef: "acme", repo: "Web.Site", visibility: "private", autoInit: true },
      leftOut: ["deletionPolicy"],
    },
  ],
  ["DeployKey", deployKey(), { name: "add_deploy_key", arguments: { name: "website-ci", repositoryRef: "website", title: "ci", readOnly: true }, leftOut: [] }],
  ["Collaborator", collaborator(), { name: "add_collaborator", arguments: { name: "website-rita", repositoryRef: "website", username: "rita", permission: "triage" }, leftOut: [] }],
  ["Package", packageOf(), { name: "list_packages", arguments: { repositoryRef: "website" }, leftOut: [] }],
] as const)("a %s as an MCP call is one of the gateway's tools", (kind, object, call) => {
  const made = toolCallOf(manifestOfObject(kind, object));
  const declared: readonly string[] = TOOLS[call.name];
  expect(Object.keys(call.arguments).filter((argument) => !declared.includes(argument))).toEqual([]);
  expect({ ...made, arguments: JSON.parse(JSON.stringify(made.arguments)) as unknown }).toEqual(call);
  expect(JSON.parse(toolCallText(made))).toEqual({ name: call.name, arguments: call.arguments });
});

test.each([
  ["Repository", { name: "delete_repository", arguments: { name: "x", confirm: "acme/x" } }],
  ["DeployKey", { name: "delete_deploy_key", arguments: { name: "x" } }],
  ["Collaborator", { name: "remove_collaborator", arguments: { name: "x" } }],
])("deleting a %s as an MCP call", (kind, call) => {
  expect(deleteCallOf(kind, "x", "acme/x")).toMatchObject(call);
  expect(deleteCallOf("Connection", "x")).toBeUndefined();
});

test("a Repository with a key and collaborators is one MCP call, too", () => {
  const call = toolCallOf(
    manifestOf("Repository", "shop", { connectionRef: "acme", name: "shop", autoInit: true }),
    manifestOf("DeployKey", "shop-key", { repositoryRef: "shop", readOnly: true, rotateEvery: "720h" }, "shop"),
    manifestOf("Collaborator", "shop-rita", { repositoryRef: "shop", username: "rita", permission: "push" }, "shop"),
    manifestOf("Collaborator", "shop-ben", { repositoryRef: "shop", username: "ben", permission: "pull" }, "shop"),
  );
  expect(JSON.parse(toolCallText(call))).toEqual({
    name: "create_repository",
    arguments: {
      name: "shop",
      connectionRef: "acme",
      repo: "shop",
      autoInit: true,
      deployKeys: [{ name: "shop-key", readOnly: true }],
      collaborators: [
        { name: "shop-rita", username: "rita", permission: "push" },
        { name: "shop-ben", username: "ben", permission: "pull" },
      ],
    },
  });
  expect(call.leftOut).toEqual(["rotateEvery"]);
});

test("what the API means by an absent field is said to a tool that would take it otherwise", () => {
  expect(toolCallOf(manifestOf("Collaborator", "x", { username: "rita" })).arguments).toMatchObject({ permission: "push" });
  expect(toolCallOf(manifestOf("Repository", "x", { name: "x" })).arguments).toMatchObject({ autoInit: false });
});

test("the Secret of a Connection as YAML has a place for the token, and no token", () => {
  expect(toYaml(tokenManifestOf({ name: "acme-token", namespace: "default", key: "token" }))).toBe(
    ["apiVersion: v1", "kind: Secret", "metadata:", "  name: acme-token", "  namespace: default", "type: Opaque", "stringData:", '  token: "…"', ""].join("\n"),
  );
});

test("a Connection of another type has no tool for the type", () => {
  expect(toolCallOf(manifestOf("Connection", "x", { type: "oauth", owner: "a" })).leftOut).toEqual(["type"]);
});

test("a label has at most 63 characters and tells long names apart, as the gateway's tools write it", async () => {
  expect(await labelOf("website")).toBe("website");
  // hashlib.sha256(b"a" * 70).hexdigest()[:8]
  expect(await labelOf("a".repeat(70))).toBe(`${"a".repeat(54)}-6bd5e503`);
  expect(await labelOf("a".repeat(70))).not.toBe(await labelOf("a".repeat(71)));
});

test("an object's name is made of any text", () => {
  expect(objectName("Web Site", "<b>CI & Co.</b>")).toBe("web-site-b-ci-co-b");
  expect(objectName("…")).toBe("unnamed");
});

test.each([
  ["https://github.com/a", true],
  ["http://127.0.0.1:1/a", true],
  ["javascript:alert(1)", false],
  ["data:text/html,x", false],
  ["not a url", false],
  ["", false],
])("a link to %j is followed: %s", (url, followed) => {
  expect(safeUrl(url)).toBe(followed ? url : undefined);
});

test("an empty description is kept, since it empties the host's", () => {
  expect(manifestOf("Repository", "website", { description: "", owner: "" }).spec).toEqual({ description: "" });
});
