import { fullName, type Collaborator, type Connection, type DeployKey, type Repository } from "../api/objects";
import { text } from "../text/en";

/** What becomes of the repository on the host when its object is deleted. The gateway's `delete_repository` says the same. */
export function repositoryFate(repository: Repository, connection?: Connection): { readonly loses: boolean; readonly words: string } {
  const name = fullName(repository, connection);
  const { deletionPolicy: policy, adoptionPolicy } = repository.spec ?? {};
  const { origin, repoID } = repository.status ?? {};
  const words = text.deletion.repository;
  if (policy === "Orphan") return { loses: false, words: words.orphan(name) };
  if (adoptionPolicy === "Observe") return { loses: false, words: words.observed(name) };
  const goes = policy === "Archive" ? words.isArchived : words.isDeleted;
  if (!repoID) return { loses: false, words: words.unmade(name, goes) };
  if (!policy && origin === "Adopted") return { loses: false, words: words.adopted(name) };
  if (!origin) return { loses: policy !== "Archive", words: words.unrecorded(name, goes, !policy) };
  if (policy === "Archive") return { loses: false, words: words.archived(name) };
  return { loses: true, words: words.deleted(name) };
}

export function deployKeyFate(key: DeployKey, where: string): string {
  const words = text.deletion.deployKey;
  const { deletionPolicy: policy, publicKey } = key.spec ?? {};
  if (policy === "Orphan") return words.orphan(where);
  if (!policy && key.status?.origin === "Adopted") return words.adopted(where);
  return publicKey ? words.removed(where) : `${words.removed(where)} ${words.secretGoes}`;
}

export function collaboratorFate(collaborator: Collaborator, where: string): string {
  const words = text.deletion.collaborator;
  const user = collaborator.spec?.username ?? "";
  const policy = collaborator.spec?.deletionPolicy;
  if (policy === "Orphan") return words.orphan(user, where);
  if (!policy && collaborator.status?.origin === "Adopted") return words.adopted(user, where);
  return words.withdrawn(user, where);
}
