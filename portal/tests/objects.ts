import type { Collaborator, Connection, DeployKey, Package, Repository } from "../src/api/objects";

type Stated = Partial<{ type: string; status: string; reason: string; message: string; lastTransitionTime: string; observedGeneration: number }>;

function meta(name: string, over: object = {}) {
  return { name, uid: `uid-${name}`, resourceVersion: "7", generation: 1, creationTimestamp: "2026-11-01T00:00:00Z", deletionTimestamp: null, annotations: null, ...over };
}

export function stated(type: string, status: string, reason = "", message = ""): Required<Stated> {
  return { type, status, reason, message, lastTransitionTime: "2026-11-01T00:00:00Z", observedGeneration: 1 };
}

interface Over {
  readonly metadata?: object;
  readonly spec?: object;
  readonly status?: object;
}

// Fields that a test does not name are null, as the gateway writes what an object lacks.
export function connection(name = "acme", { metadata, spec, status }: Over = {}): Connection {
  return {
    metadata: meta(name, metadata),
    spec: { provider: "github", type: "pat", owner: "acme", baseURL: null, caBundle: null, secretRef: { name: `${name}-token`, namespace: null, key: null }, ...spec },
    status: { observedGeneration: 1, login: "acme", host: "github.com", scopes: ["repo"], tokenType: "classic", expiresAt: null, lastHandledReconcileAt: null, capabilities: [], conditions: [stated("Ready", "True", "Reconciled"), stated("Validated", "True", "Validated")], ...status },
  } as Connection;
}

export function repository(name = "website", { metadata, spec, status }: Over = {}): Repository {
  return {
    metadata: meta(name, metadata),
    spec: { connectionRef: "acme", name, owner: null, visibility: "private", description: null, defaultBranch: null, autoInit: true, adoptionPolicy: null, deletionPolicy: null, missingPolicy: null, ...spec },
    status: { observedGeneration: 1, repoID: "42", host: "github.com", owner: "acme", origin: "Created", missingSince: null, htmlURL: `https://github.com/acme/${name}`, cloneURL: `https://github.com/acme/${name}.git`, sshURL: `git@github.com:acme/${name}.git`, unmanagedSettings: null, lastHandledReconcileAt: null, conditions: [stated("Ready", "True", "Reconciled")], ...status },
  } as Repository;
}

export function deployKey(name = "website-ci", { metadata, spec, status }: Over = {}): DeployKey {
  return {
    metadata: meta(name, metadata),
    spec: { repositoryRef: "website", title: "ci", publicKey: null, readOnly: true, rotateEvery: null, deletionPolicy: null, ...spec },
    status: { observedGeneration: 1, keyID: "5", origin: "Created", readOnly: true, rotatedAt: null, previousKeyID: null, lastHandledReconcileAt: null, secretRef: { name: `deploykey-${name}`, namespace: "default", key: "ssh-privatekey" }, conditions: [stated("Ready", "True", "Reconciled")], ...status },
  } as DeployKey;
}

export function collaborator(name = "website-rita", { metadata, spec, status }: Over = {}): Collaborator {
  return {
    metadata: meta(name, metadata),
    spec: { repositoryRef: "website", username: "rita", permission: "triage", expiresAt: null, deletionPolicy: null, ...spec },
    status: { observedGeneration: 1, invitationID: null, invitedAt: null, origin: "Created", widerRole: null, lastHandledReconcileAt: null, conditions: [stated("Ready", "True", "Reconciled")], ...status },
  } as Collaborator;
}

export function packageOf(name = "website-container-app", { metadata, spec, status }: Over = {}): Package {
  return {
    metadata: meta(name, metadata),
    spec: { repositoryRef: "website", ...spec },
    status: { observedGeneration: 1, packageName: "app", type: "container", visibility: "private", htmlURL: null, imageRepository: "ghcr.io/acme/app", versionCount: 2, updatedAt: null, lastSyncTime: null, versions: [], conditions: [stated("Ready", "True", "Reconciled")], ...status },
  } as Package;
}

export function stalled(reason: string, message = ""): object {
  return { status: { conditions: [stated("Ready", "False", reason, message), stated("Stalled", "True", reason, message)] } };
}

export function waiting(reason: string, message = ""): object {
  return { status: { conditions: [stated("Ready", "False", reason, message), stated("Reconciling", "True", reason, message)] } };
}
