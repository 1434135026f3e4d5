import { describe, expect, test } from "vitest";
import { explain } from "../src/explain/chain";
import { cloneWithKey, httpsUrl, quoted, sshUrl } from "../src/explain/clone";
import { capabilitiesOf, credentialPage, expiryOf, newTokenPage } from "../src/explain/credential";
import { collaboratorFate, deployKeyFate, repositoryFate } from "../src/explain/deletion";
import { overviewOf } from "../src/explain/overview";
import { newestForUse, pullCommand } from "../src/explain/packages";
import { isReady, meaningOf, remarksOf, stateOf } from "../src/explain/state";
import { text } from "../src/text/en";
import { CONDITION_TYPES, REASONS } from "../src/text/reasons.gen";
import { collaborator, connection, deployKey, packageOf, repository, stalled, stated, waiting } from "./objects";

describe("the state of an object", () => {
  test.each(Object.entries(REASONS))("that is stalled by %s says what that means and who acts", (reason, { means, actor }) => {
    const state = stateOf("Repository", repository("website", stalled(reason, "the host's words")));
    expect(state).toMatchObject({ tone: "bad", badge: "Needs action", reason, message: "the host's words", actor: actor ?? "workspace" });
    const [, told = means] = /^On `[^:.]*[:.] ?(.*)$/.exec(means) ?? [];
    expect(state.sentence.toLowerCase()).toBe(`cannot go on. in general this means: ${(told || reason).replace(/\.$/, "").replaceAll("`", "").toLowerCase()}`);
  });

  test.each(Object.entries(REASONS))("that waits because of %s says what that means, and whether anybody acts", (reason, { actor }) => {
    const state = stateOf("Repository", repository("website", waiting(reason)));
    const tone = [undefined, "nobody", "invitedUser"].includes(actor) ? "busy" : "bad";
    expect(state).toMatchObject({ tone, reason, actor: actor ?? "nobody" });
  });

  test("names no condition that stands beside it", () => {
    expect(meaningOf("Validated")).toBe("The host accepted the credential.");
    expect(meaningOf("PackagesMirrored")).toBe("");
    expect(Object.keys(REASONS).map(meaningOf).filter((means) => /^On [A-Z]|, which is (True|False|Unknown)/.test(means))).toEqual([]);
  });

  test("of a reason that the portal does not know is told by its name", () => {
    expect(stateOf("Repository", repository("x", stalled("BrandNew"))).sentence).toContain("BrandNew");
  });

  test("that is ready asks nobody for anything", () => {
    expect(stateOf("Repository", repository())).toEqual({ tone: "good", badge: "Ready", sentence: "is ready", message: "" });
    expect(stateOf("Connection", connection()).badge).toBe("Connected");
  });

  test("that is ready and tried again stays ready, with the reason", () => {
    const again = repository("x", { status: { conditions: [stated("Ready", "True", "Reconciled"), stated("Reconciling", "True", "HostUnavailable", "down")] } });
    expect(stateOf("Repository", again)).toMatchObject({ tone: "good", reason: "HostUnavailable", message: "down" });
  });

  test.each([
    ["has no status yet", { status: { observedGeneration: null, conditions: null } }, "New"],
    ["was changed since", { metadata: { generation: 2 } }, "Changed"],
    ["was stalled before it was changed", { metadata: { generation: 2 }, ...stalled("NameTaken") }, "Changed"],
  ])("that %s is being looked at", (_, over, badge) => {
    expect(stateOf("Repository", repository("x", over))).toMatchObject({ tone: "busy", badge, actor: "nobody" });
  });

  test("that is paused says how to go on", () => {
    const paused = repository("x", { metadata: { annotations: { "code.kedge.faros.sh/paused": "true" } } });
    expect(stateOf("Repository", paused)).toMatchObject({ tone: "paused", actor: "workspace", todo: text.state.unpause });
  });

  test("that is being deleted says so, and what holds it", () => {
    const deletionTimestamp = "2026-11-02T00:00:00Z";
    expect(stateOf("Repository", repository("x", { metadata: { deletionTimestamp } }))).toMatchObject({ tone: "busy", badge: "Deleting" });
    const held = stateOf("Repository", repository("x", { metadata: { deletionTimestamp }, ...waiting("DeletionBlocked", "2 keys") }));
    expect(held).toMatchObject({ tone: "busy", badge: "Deleting", actor: "workspace", message: "2 keys" });
    expect(stateOf("Repository", repository("x", { metadata: { deletionTimestamp }, ...stalled("OwnershipDisputed") })).sentence).toContain("is being deleted, and cannot go on");
  });

  test("of an invited collaborator waits for the user", () => {
    expect(stateOf("Collaborator", collaborator("x", waiting("InvitationPending")))).toMatchObject({ badge: "Invited", actor: "invitedUser" });
  });

  test("of a Connection without Ready follows Validated", () => {
    const status = (value: string, reason: string) => ({ status: { conditions: [stated("Validated", value, reason, "why")] } });
    expect(isReady("Connection", connection("x", status("True", "Validated")))).toBe(true);
    expect(stateOf("Connection", connection("x", status("False", "ValidationFailed")))).toMatchObject({ tone: "bad", actor: "workspace", message: "why" });
  });
});

test.each(Object.keys(CONDITION_TYPES).filter((type) => !["Ready", "Reconciling", "Stalled", "Validated", "PackagesAvailable"].includes(type)))(
  "the condition %s is told beside the state, with its meaning",
  (type) => {
    const found = remarksOf(repository("x", { status: { conditions: [stated(type, "True", "Because", "words")] } }));
    expect(found).toEqual([{ type, meaning: CONDITION_TYPES[type]?.replaceAll("`", ""), message: "words" }]);
    expect(remarksOf(repository("x", { status: { conditions: [stated(type, "False")] } }))).toEqual([]);
  },
);

describe("an explanation", () => {
  const key = deployKey("website-ci", waiting("RepositoryNotReady", "waits for Repository website"));
  const waitingRepository = repository("website", waiting("ConnectionNotReady"));
  const broken = connection("acme", stalled("CredentialRejected", "401"));

  test("names the last link with a problem as the cause", () => {
    const { sentences, cause, actor, message, who } = explain([
      { kind: "DeployKey", name: "website-ci", object: key },
      { kind: "Repository", name: "website", object: waitingRepository },
      { kind: "Connection", name: "acme", object: broken },
    ]);
    expect(sentences).toHaveLength(4);
    expect(sentences.at(-1)).toBe("So the cause is Connection acme.");
    expect({ cause, actor, message }).toEqual({ cause: { kind: "Connection", name: "acme" }, actor: "hostAccount", message: "401" });
    expect(who).toBe(text.explain.actors.hostAccount);
  });

  test("says that a dependency does not exist, and what to do", () => {
    const found = explain([
      { kind: "Repository", name: "website", object: waitingRepository },
      { kind: "Connection", name: "gone", object: null },
    ]);
    expect(found).toMatchObject({ actor: "workspace", cause: { kind: "Connection", name: "gone" } });
    expect(found.todo).toContain("Create the Connection gone");
  });

  test("says nothing of a dependency that is not shown", () => {
    const found = explain([
      { kind: "Repository", name: "website", object: repository() },
      { kind: "Connection", name: "acme", object: undefined },
    ]);
    expect(found).toMatchObject({ sentences: ["Repository website is ready."], who: "Nothing has to be done.", cause: undefined });
  });

  test("of what is ready warns that a change will have to wait", () => {
    const found = explain([
      { kind: "Repository", name: "website", object: repository() },
      { kind: "Connection", name: "acme", object: broken },
    ]);
    expect(found.sentences.at(-1)).toBe("A change of this Repository will have to wait for Connection acme.");
  });
});

describe("the fate of a repository on the host", () => {
  test.each([
    ["made here", {}, {}, true, "is deleted on the host, with its code"],
    ["adopted", {}, { origin: "Adopted" }, false, "stays on the host, because it was there before"],
    ["adopted, and to be deleted", { deletionPolicy: "Delete" }, { origin: "Adopted" }, true, "is deleted on the host"],
    ["made here, and to be left", { deletionPolicy: "Orphan" }, {}, false, "because its settings here say so"],
    ["made here, and to be archived", { deletionPolicy: "Archive" }, {}, false, "is archived on the host"],
    ["observed", { adoptionPolicy: "Observe" }, {}, false, "because it is only reported on here"],
    ["not there yet", {}, { repoID: null, origin: null }, false, "It is not known to be on the host yet"],
    ["of an unrecorded origin", {}, { origin: null }, true, "if it was created from here, and stays if it was there before"],
    ["of an unrecorded origin, and to be archived", { deletionPolicy: "Archive" }, { origin: null }, false, "acme/website is archived."],
  ])("that was %s", (_, spec, status, loses, words) => {
    const fate = repositoryFate(repository("website", { spec, status }));
    expect(fate.words).toContain(words);
    expect(fate.words).toContain("acme/website");
    expect(fate.loses).toBe(loses);
  });
});

test.each([
  [{}, {}, "is removed from acme/website. Whoever uses it loses access. The Secret with its generated pair is deleted, too."],
  [{ publicKey: "ssh-ed25519 AAAA" }, {}, "is removed from acme/website. Whoever uses it loses access."],
  [{ deletionPolicy: "Orphan" }, {}, "because its settings here say so"],
  [{}, { origin: "Adopted" }, "because it was there before this object"],
])("the fate of a deploy key with spec %j and status %j", (spec, status, words) => {
  expect(deployKeyFate(deployKey("x", { spec, status }), "acme/website")).toContain(words);
});

test.each([
  [{}, {}, "rita to acme/website is withdrawn"],
  [{ deletionPolicy: "Orphan" }, {}, "because its settings here say so"],
  [{}, { origin: "Adopted" }, "because it was there before this object"],
])("the fate of a collaborator with spec %j and status %j", (spec, status, words) => {
  expect(collaboratorFate(collaborator("x", { spec, status }), "acme/website")).toContain(words);
});

describe("a credential", () => {
  test.each([
    ["classic", "pat", "https://github.com/settings/tokens"],
    ["fine-grained", "pat", "https://github.com/settings/personal-access-tokens"],
    ["oauth", "oauth", "https://github.com/settings/applications"],
    ["installation", "github-app", "https://github.com/settings/installations"],
    [null, "oauth", "https://github.com/settings/applications"],
  ])("of the kind %s and type %s is mended at %s", (tokenType, type, page) => {
    expect(credentialPage(connection("x", { spec: { type }, status: { tokenType } }))).toBe(page);
  });

  test("of an Enterprise Server is mended there, and of a host that is no host nowhere", () => {
    expect(credentialPage(connection("x", { status: { host: null }, spec: { baseURL: "https://ghe.example/api/v3" } }))).toBe("https://ghe.example/settings/tokens");
    expect(credentialPage(connection("x", { status: { host: "evil.example/x?" } }))).toBeUndefined();
    expect(newTokenPage("not a url")).toBeUndefined();
    expect(newTokenPage("")).toContain("https://github.com/settings/tokens/new?scopes=repo");
  });

  test("shows when it ends", () => {
    const now = Date.parse("2026-11-30T00:00:00Z");
    const ending = (expiresAt: string | null) => expiryOf(connection("x", { status: { expiresAt } }), now);
    expect(ending(null)).toBeUndefined();
    expect(ending("2026-11-29T00:00:00Z")).toEqual({ tone: "over", words: "expired" });
    expect(ending("2026-11-30T05:00:00Z")).toEqual({ tone: "soon", words: "in less than a day" });
    expect(ending("2026-12-05T00:00:00Z")).toEqual({ tone: "soon", words: "in 5 days" });
    expect(ending("2027-12-05T00:00:00Z")?.tone).toBe("good");
  });

  test("has no capability that is null", () => {
    expect(capabilitiesOf(connection("x", { status: { capabilities: [null, { name: "packages", status: "No", message: "" }] } }))).toHaveLength(1);
    expect(capabilitiesOf(connection("x", { status: null as unknown as object }))).toEqual([]);
  });
});

describe("cloning", () => {
  test("with a generated key never shows the key, and quotes for the shell", () => {
    const commands = cloneWithKey(repository(), deployKey("a'b", { status: { secretRef: { name: "s$(x)", namespace: null, key: null } } }));
    expect(commands?.[0]).toContain(`kubectl get secret 's$(x)' --namespace default`);
    expect(commands?.[1]).toContain("git clone git@github.com:acme/website.git");
    expect(cloneWithKey(repository(), deployKey("x", { spec: { publicKey: "ssh-ed25519 AAAA" } }))).toBeUndefined();
  });

  test.each(["--upload-pack=x", "git@h:a b", "javascript:alert(1)", "git@host:a'b", ""])("shows no command for the address %j", (sshURL) => {
    expect(sshUrl(repository("x", { status: { sshURL } }))).toBeUndefined();
    expect(httpsUrl(repository("x", { status: { cloneURL: sshURL } }))).toBeUndefined();
  });

  test("leaves plain words and quotes the others", () => {
    expect([quoted("a-b"), quoted("-rf"), quoted("it's"), quoted("")]).toEqual(["a-b", "'-rf'", String.raw`'it'\''s'`, "''"]);
  });
});

describe("a package", () => {
  const signature = { digest: `sha256:${"1".repeat(64)}`, tags: [`sha256-${"2".repeat(64)}.sig`], createdAt: null };
  const image = { digest: `sha256:${"2".repeat(64)}`, tags: ["v1", "latest"], createdAt: null };

  test("is pulled by the newest version that is no signature, by its digest", () => {
    const found = packageOf("x", { status: { versions: [signature, { ...image, digest: "sha256:3", tags: [] }, image, null] } });
    expect(newestForUse(found)).toBe(image);
    expect(pullCommand(found, image)).toBe(`docker pull ghcr.io/acme/app@sha256:${"2".repeat(64)}`);
    expect(pullCommand(found, { ...image, digest: null })).toBe("docker pull ghcr.io/acme/app:v1");
  });

  test.each([
    ["npm", "@acme/app", "npm install @acme/app@1.2.3"],
    ["nuget", "Acme.App", "dotnet add package Acme.App --version 1.2.3"],
    ["rubygems", "app", "gem install app --version 1.2.3"],
    ["maven", "com.acme.app", "mvn dependency:get -Dartifact=com.acme:app:1.2.3"],
    ["docker", "app", undefined],
    ["npm", "@x; rm -rf /", "npm install '@x; rm -rf /@1.2.3'"],
    ["npm", "app", undefined],
  ])("of type %s named %s is got by %s", (type, packageName, command) => {
    expect(pullCommand(packageOf("x", { status: { type, packageName, imageRepository: null } }), { digest: "1.2.3", tags: null, createdAt: null })).toBe(command);
  });
});

test("the tile leads with what waits for somebody, and not with what waits for that", () => {
  const { broken, working } = overviewOf(
    [connection("acme", stalled("CredentialRejected")), connection("fine")],
    [repository("a", waiting("ConnectionNotReady")), repository("b", stalled("NameTaken")), repository("c"), repository("d", waiting("InvitationPending"))],
  );
  expect(broken.map(({ name, why }) => `${name} ${why}`)).toEqual(["acme CredentialRejected", "b NameTaken", "d InvitationPending"]);
  expect(working).toBe(1);
});
