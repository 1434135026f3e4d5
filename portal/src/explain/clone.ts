import { DEFAULT_NAMESPACE, safeUrl, type DeployKey, type Repository } from "../api/objects";

/** Commands that clone the repository over SSH with the generated key of a DeployKey, without the key ever being on a page. */
export function cloneWithKey(repository: Repository, key: DeployKey): readonly string[] | undefined {
  const secret = key.status?.secretRef?.name;
  const url = sshUrl(repository);
  if (!secret || !url || key.spec?.publicKey) return undefined;
  const namespace = key.status?.secretRef?.namespace || DEFAULT_NAMESPACE;
  const file = quoted(`${key.metadata?.name ?? "key"}.pem`);
  return [
    `(umask 077; kubectl get secret ${quoted(secret)} --namespace ${quoted(namespace)} --output 'jsonpath={.data.ssh-privatekey}' | base64 --decode > ${file})`,
    `GIT_SSH_COMMAND="ssh -i ${file} -o IdentitiesOnly=yes" git clone ${quoted(url)}`,
  ];
}

/** Without what a shell or git would take for an option. */
export function sshUrl(repository: Repository): string | undefined {
  const url = repository.status?.sshURL ?? "";
  return /^(ssh:\/\/)?[A-Za-z0-9._-]+@[A-Za-z0-9.-]+[:/][^\s'"]+$/.test(url) ? url : undefined;
}

export function httpsUrl(repository: Repository): string | undefined {
  const url = safeUrl(repository.status?.cloneURL);
  return url && !/[\s'"]/.test(url) ? url : undefined;
}

/** One word of a shell, whatever it holds. */
export function quoted(word: string): string {
  return /^[A-Za-z0-9@%+=:,./_-]+$/.test(word) && !word.startsWith("-") ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
