import { fullName, nameOf, type Repository } from "../api/objects";
import { stateOf, type Tone } from "../explain/state";

export type Sort = "name" | "status" | "newest";

const ORDER: Readonly<Record<Tone, number>> = { bad: 0, paused: 1, busy: 2, good: 3 };

/** Those that match every word of the search, sorted. */
export function rowsOf(repositories: readonly Repository[], search: string, sort: Sort): Repository[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const matching = repositories.filter((repository) => {
    const found = searched(repository);
    return words.every((word) => found.includes(word));
  });
  const byName = (a: Repository, b: Repository) => nameOf(a).localeCompare(nameOf(b), "en");
  switch (sort) {
    case "status":
      return matching.sort((a, b) => ORDER[toneOf(a)] - ORDER[toneOf(b)] || byName(a, b));
    case "newest":
      return matching.sort((a, b) => createdAt(b).localeCompare(createdAt(a)) || byName(a, b));
    default:
      return matching.sort(byName);
  }
}

function searched(repository: Repository): string {
  const { badge, reason } = stateOf("Repository", repository);
  return [nameOf(repository), fullName(repository), repository.spec?.connectionRef, repository.spec?.visibility, badge, reason].join(" ").toLowerCase();
}

function toneOf(repository: Repository): Tone {
  return stateOf("Repository", repository).tone;
}

function createdAt(repository: Repository): string {
  return repository.metadata?.creationTimestamp ?? "";
}
