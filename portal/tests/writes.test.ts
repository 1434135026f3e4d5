// @vitest-environment jsdom
import { afterEach, describe, expect, test, vi } from "vitest";
import { parse } from "yaml";
import { createClient } from "../src/api/client";
import { listDeployKeys, listRepositories } from "../src/api/lists";
import * as operations from "../src/api/operations.gen";
import { Problem } from "../src/api/problem";
import { createToken, creatorOf, freeSecretName, remove, replaceToken, requestReconcile, update } from "../src/api/writes";
import { writeFailure } from "../src/components/useWrite";
import { manifestOf, manifestOfObject } from "../src/export/manifests";
import { collaborator, connection, deployKey, repository } from "./objects";
import { annotationsOf, api, failed, json, list, lost, serve, type Answer } from "./server";

afterEach(() => vi.unstubAllGlobals());
const client = () => createClient(() => ({ tenant: "one", token: "t" }), new AbortController().signal);
const secrets = (fields: object) => json({ data: { v1: fields } });

test("creating is a create mutation with the whole manifest, label included", async () => {
  const asked = serve(() => api({ createDeployKey: { metadata: { name: "k" } } }));
  await creatorOf(client())(manifestOf("DeployKey", "k", { repositoryRef: "website", readOnly: true, title: "" }, "website"));
  expect(asked[0]?.query).toContain("createDeployKey");
  expect(asked[0]?.variables.object).toEqual({
    apiVersion: "code.kedge.faros.sh/v1alpha1",
    kind: "DeployKey",
    metadata: { name: "k", labels: { "code.kedge.faros.sh/repository": "website" }, annotations: { "code.kedge.faros.sh/portal-request": expect.stringMatching(/^[0-9a-f]{32}$/) } },
    spec: { repositoryRef: "website", readOnly: true },
  });
});

describe("a create whose answer is lost", () => {
  const taken = () => failed('repositories.code.kedge.faros.sh "x" already exists');
  const gone = () => failed('repositories.code.kedge.faros.sh "x" not found');
  const made = () => api({ createRepository: { metadata: { name: "x", uid: "u2" } } });
  const kinds = [
    ["Connection", connection("x")],
    ["Repository", repository("x")],
    ["DeployKey", deployKey("x")],
    ["Collaborator", collaborator("x")],
  ] as const;
  type Annotations = Readonly<Record<string, string>>;

  /** An answer for each create, and one for looks at the object. That is told the annotations of the first create. */
  function serving(creates: readonly Answer[], look: (first: Annotations) => Response | Promise<Response>) {
    let tries = 0;
    const asked = serve((one) => (one.query.startsWith("mutation") ? creates[tries++]?.(one) : look(annotationsOf(asked[0]!))) ?? lost());
    return asked;
  }

  test.each(kinds)("is a success if the %s is there", async (kind, object) => {
    const asked = serving([lost], (annotations) => api({ [kind]: { ...object, metadata: { ...object.metadata, annotations } } }));
    expect(await creatorOf(client())(manifestOfObject(kind, object))).toMatchObject({ name: "x", uid: "uid-x" });
    expect(asked.map(({ query }) => /\{ (\w+)\((name|object):/.exec(query)?.[1])).toEqual([`create${kind}`, kind]);
  });

  test.each(kinds)("is tried again if the %s cannot be seen, and is a success once it can", async (kind, object) => {
    const create = creatorOf(client());
    const unseen = () => Promise.reject(new TypeError("network error"));
    let isBack = false;
    serving([unseen, taken, taken], (annotations) => (isBack ? api({ [kind]: { ...object, metadata: { ...object.metadata, annotations } } }) : unseen()));
    // Nor is it said that the name is taken, as long as it is not known by whom.
    for (let tries = 0; tries < 2; tries += 1) await expect(create(manifestOfObject(kind, object))).rejects.toMatchObject({ kind: "unreachable" });
    isBack = true;
    expect(await create(manifestOfObject(kind, object))).toMatchObject({ name: "x", uid: "uid-x" });
  });

  test("and was not done is done by the next try", async () => {
    const create = creatorOf(client());
    serving([lost, made], gone);
    await expect(create(manifestOf("Repository", "x", {}))).rejects.toMatchObject({ kind: "unreachable" });
    expect(await create(manifestOf("Repository", "x", {}))).toMatchObject({ name: "x", uid: "u2" });
  });

  test("is known by its id, and what is stored is told: another try may have chosen otherwise", async () => {
    const create = creatorOf(client());
    serving([lost, taken], (annotations) => api({ Connection: connection("x", { metadata: { annotations } }) }));
    expect(await create(manifestOf("Connection", "x", {}), { secretRef: { name: "x-token" } })).toMatchObject({ spec: { secretRef: { name: "x-token" } } });
    expect(await create(manifestOf("Connection", "x", {}), { secretRef: { name: "another" } })).toMatchObject({ spec: { secretRef: { name: "x-token" } } });
  });

  test.each([
    ["was made by another, of the same name and spec, right then", () => ({ creationTimestamp: new Date().toISOString() })],
    ["was made by another form", () => ({ creationTimestamp: new Date().toISOString(), annotations: { "code.kedge.faros.sh/portal-request": "0".repeat(32) } })],
    ["is being deleted", (annotations: Annotations) => ({ annotations, deletionTimestamp: "2026-11-30T12:00:00Z" })],
  ])("is refused if the object %s", async (_, metadata) => {
    const create = creatorOf(client());
    const manifest = manifestOfObject("Repository", repository("x"));
    serving([lost, taken], (annotations) => api({ Repository: repository("x", { metadata: metadata(annotations) }) }));
    await expect(create(manifest)).rejects.toMatchObject({ kind: "unreachable" });
    await expect(create(manifest)).rejects.toMatchObject({ kind: "exists" });
  });

  test("is refused if the form says something else by now: what is there does not say it", async () => {
    const create = creatorOf(client());
    let isBack = false;
    serving([lost, taken], (annotations) => (isBack ? api({ Repository: repository("x", { metadata: { annotations } }) }) : lost()));
    await expect(create(manifestOf("Repository", "x", { visibility: "private" }))).rejects.toMatchObject({ kind: "unreachable" });
    isBack = true;
    await expect(create(manifestOf("Repository", "x", { visibility: "public" }))).rejects.toMatchObject({ kind: "exists" });
  });

  test("is not known to another form", async () => {
    serving([lost, taken], (annotations) => api({ Repository: repository("x", { metadata: { annotations } }) }));
    await creatorOf(client())(manifestOf("Repository", "x", {}));
    await expect(creatorOf(client())(manifestOf("Repository", "x", {}))).rejects.toMatchObject({ kind: "exists" });
  });
});

test("updating sends what changes, and the version that it is based on", async () => {
  const asked = serve(() => api({ updateRepository: { metadata: { generation: 3 } } }));
  await update(client(), "Repository", "website", { description: "new" }, { version: "7", generation: 2 });
  expect(asked.map(({ variables }) => variables)).toEqual([{ name: "website", object: { metadata: { resourceVersion: "7" }, spec: { description: "new" } } }]);
});

describe("taking fields away", () => {
  const yaml = `apiVersion: code.kedge.faros.sh/v1alpha1
kind: Collaborator
metadata:
    finalizers:
        - collaborators.code.kedge.faros.sh/finalizer
    generation: 3
    labels:
        code.kedge.faros.sh/repository: website
    name: x
spec:
    expiresAt: "2039-01-01T10:00:00Z"
    permission: push
    title: |-
        several

        lines
    username: rita
status:
    expiresAt: kept
`;

  test("is one write with all other changes: the object as it is but for them, because the gateway drops the nulls of a merge", async () => {
    const asked = serve(({ query }) => (query.includes("applyYaml") ? json({ data: { applyYaml: "{}" } }) : api({ CollaboratorYaml: yaml })));
    const permission = 'ro\u2028le: "x" # \u007f\n- y';
    await update(client(), "Collaborator", "x", { permission, expiresAt: null, title: null }, { version: "7", generation: 3 });
    expect(asked).toHaveLength(2);
    const { spec, ...others } = parse(yaml) as { spec: object };
    expect(parse(String(asked[1]?.variables.yaml))).toEqual({ ...others, spec: { permission, username: "rita" } });
    expect(others).toMatchObject({ status: { expiresAt: "kept" } });
    expect(spec).toMatchObject({ title: "several\n\nlines" });
    // Line breaks to the gateway's parser.
    expect(String(asked[1]?.variables.yaml)).not.toMatch(/[\u007f\u2028]/);
  });

  test("is refused where another has written spec since", async () => {
    const asked = serve(() => api({ CollaboratorYaml: yaml }));
    await expect(update(client(), "Collaborator", "x", { expiresAt: null }, { version: "7", generation: 2 })).rejects.toMatchObject({ kind: "conflict" });
    expect(asked).toHaveLength(1);
  });

  test("is refused where the object is being deleted: applying what is gone would make it anew", async () => {
    const asked = serve(() => api({ CollaboratorYaml: yaml.replace("metadata:\n", 'metadata:\n    deletionTimestamp: "2026-11-30T12:00:00Z"\n') }));
    await expect(update(client(), "Collaborator", "x", { expiresAt: null }, { version: "7", generation: 3 })).rejects.toMatchObject({ kind: "conflict" });
    expect(asked).toHaveLength(1);
  });
});

test("asking for a look writes one annotation and no spec", async () => {
  const asked = serve(() => api({ updateConnection: {} }));
  await requestReconcile(client(), "Connection", "acme", new Date("2026-11-30T12:00:00Z"));
  expect(asked[0]?.variables.object).toEqual({ metadata: { annotations: { "code.kedge.faros.sh/reconcile-requested-at": "2026-11-30T12:00:00.000Z" } } });
});

test("deleting what is gone is fine, and what may not be deleted is not", async () => {
  serve(() => failed('repositories.code.kedge.faros.sh "x" not found'));
  await remove(client(), "Repository", "x");
  serve(() => failed('repositories.code.kedge.faros.sh "x" is forbidden: no'));
  await expect(remove(client(), "Repository", "x")).rejects.toMatchObject({ kind: "forbidden" });
});

test("objects are applied whole to take fields away, and for nothing else; no run's id is selected", () => {
  const documents = Object.values(operations) as string[];
  expect(documents.filter((document) => document.includes("applyYaml"))).toEqual([operations.ApplyYaml]);
  expect(documents.filter((document) => document.includes("runID"))).toEqual([]);
});

describe("a Connection", () => {
  test("is made before its Secret, which names it as its owner", async () => {
    const asked = serve(({ query }) => (query.includes("createSecret") ? secrets({ createSecret: {} }) : api({ createConnection: { metadata: { name: "acme", uid: "u1" } } })));
    const made = await creatorOf(client())(manifestOf("Connection", "acme", {}));
    await createToken(client(), made, { name: "acme-token", namespace: "default", key: "token" }, "ghp_x", "i1");
    expect(asked.map(({ query }) => /create(Connection|Secret)\(/.exec(query)?.[1])).toEqual(["Connection", "Secret"]);
    expect(asked[1]?.variables.object).toMatchObject({
      metadata: { name: "acme-token", annotations: { "code.kedge.faros.sh/portal-request": "i1" }, ownerReferences: [{ apiVersion: "code.kedge.faros.sh/v1alpha1", kind: "Connection", name: "acme", uid: "u1" }] },
      stringData: { token: "ghp_x" },
    });
  });

  test("takes another name for its Secret where one of that name is there", async () => {
    serve(() => secrets({ Secret: { metadata: { name: "acme-token" } } }));
    expect(await freeSecretName(client(), "acme")).toMatch(/^acme-token-[0-9a-f]+$/);
    serve(() => json({ data: { v1: null }, errors: [{ message: 'secrets "acme-token" not found' }] }));
    expect(await freeSecretName(client(), "acme")).toBe("acme-token");
  });

  test("of who may not read Secrets takes a name that none has", async () => {
    serve(() => json({ data: { v1: null }, errors: [{ message: 'secrets "acme-token" is forbidden: User "x" cannot get resource "secrets"' }] }));
    expect(await freeSecretName(client(), "acme")).toMatch(/^acme-token-[0-9a-f]+$/);
  });

  test("whose name is taken is refused, in words", async () => {
    serve(() => failed('connections.code.kedge.faros.sh "acme" already exists'));
    const error = await creatorOf(client())(manifestOf("Connection", "acme", {})).catch((reason: unknown) => reason);
    expect(writeFailure(error, { kind: "Connection", name: "acme" })).toBe("There is a Connection named acme already. Nothing was changed. Choose another name.");
  });

  test("is given another token by a merge of that entry alone, in the Secret and entry that it names", async () => {
    const asked = serve(() => secrets({ updateSecret: {} }));
    await replaceToken(client(), connection("acme", { spec: { secretRef: { name: "own", namespace: "team", key: "pat" } } }), "ghp_new");
    expect(asked[0]?.variables).toEqual({ name: "own", namespace: "team", object: { stringData: { pat: "ghp_new" } } });
  });

  test("whose Secret is gone gets one", async () => {
    const asked = serve(({ query }) => (query.includes("updateSecret") ? json({ data: { v1: null }, errors: [{ message: 'secrets "acme-token" not found' }] }) : secrets({ createSecret: {} })));
    await replaceToken(client(), connection(), "ghp_new");
    expect(asked[1]?.variables.object).toMatchObject({ metadata: { name: "acme-token", ownerReferences: [{ uid: "uid-acme" }] } });
  });
});

describe("a refused write in words", () => {
  const subject = { kind: "Repository", name: "website" };
  test.each([
    ["conflict", "x", /Somebody else, or the provider, changed this object/],
    ["forbidden", "x", /Your account may not do this/],
    ["session", "x", /Sign in again/],
    ["unreachable", "x", /not known whether this was done\. Look whether it was before you try again\.$/],
    ["missing", "x", /does not exist any more/],
    ["preparing", "x", /not ready in this workspace yet/],
    ["invalid", 'Repository.code "website" is invalid: spec.name: Invalid value: "": too short', /^The workspace refused this: spec\.name: Invalid value: "": too short$/],
    ["other", "boom", /^That did not work: boom$/],
  ] as const)("of kind %s", (kind, detail, words) => {
    expect(writeFailure(new Problem(kind, detail), subject)).toMatch(words);
  });
});

describe("lists", () => {
  test("read pages until there is enough, and know how many there are", async () => {
    const asked = serve(({ variables }) =>
      api({ Repositories: list([repository(`r-${String(variables.continue)}`)], variables.continue === "p2" ? {} : { continue: variables.continue ? "p2" : "p1", remainingItemCount: 2 }) }),
    );
    const all = await listRepositories(client());
    expect([all.items.map((item) => item.metadata?.name), all.total]).toEqual([["r-null", "r-p1", "r-p2"], 3]);
    expect(asked.map(({ variables }) => variables)).toEqual([null, "p1", "p2"].map((from) => ({ limit: 100, continue: from })));
    const one = await listRepositories(client(), undefined, 1);
    expect([one.items.length, one.total]).toEqual([1, 3]);
  });

  test("of children ask by label, and for those without a label, and keep what belongs to the repository", async () => {
    const asked = serve(({ variables }) =>
      api({
        DeployKeys: list(
          variables.selector === "!code.kedge.faros.sh/repository"
            ? [deployKey("unlabelled"), deployKey("of-another", { spec: { repositoryRef: "other" } })]
            : [deployKey("labelled"), deployKey("mislabelled", { spec: { repositoryRef: "other" } })],
        ),
      }),
    );
    const found = await listDeployKeys(client(), "website");
    expect(found.items.map((item) => item.metadata?.name)).toEqual(["labelled", "unlabelled"]);
    expect(asked.map(({ variables }) => variables.selector).sort()).toEqual(["!code.kedge.faros.sh/repository", "code.kedge.faros.sh/repository=website"]);
  });
});
