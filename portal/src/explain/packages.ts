import type { Package } from "../api/objects";
import { quoted } from "./clone";

export type Version = NonNullable<NonNullable<NonNullable<Package["status"]>["versions"]>[number]>;

export function versionsOf(item: Package): Version[] {
  return (item.status?.versions ?? []).filter((version): version is Version => version !== null);
}

export function tagsOf(version: Version): string[] {
  return (version.tags ?? []).filter((tag): tag is string => Boolean(tag));
}

// Signatures and attestations are pushed as tags of their own.
const ATTACHED = /^sha256-[0-9a-f]{64}/;

/** The newest version that somebody published for use: the newest of a container is often a signature or an untagged platform. */
export function newestForUse(item: Package): Version | undefined {
  const versions = versionsOf(item);
  if (item.status?.type !== "container") return versions[0];
  return versions.find((version) => tagsOf(version).some((tag) => !ATTACHED.test(tag))) ?? versions[0];
}

/** How to get one version of a package, or undefined where there is no common command. */
export function pullCommand(item: Package, version: Version): string | undefined {
  const { type, packageName, imageRepository } = item.status ?? {};
  const id = version.digest ?? "";
  if (type === "container") {
    if (!imageRepository) return undefined;
    const tag = tagsOf(version).find((one) => !ATTACHED.test(one));
    // The digest names the image for good; a tag may move.
    if (/^sha\d+:[0-9a-f]+$/.test(id)) return `docker pull ${quoted(`${imageRepository}@${id}`)}`;
    return tag ? `docker pull ${quoted(`${imageRepository}:${tag}`)}` : undefined;
  }
  if (!packageName || !id) return undefined;
  switch (type) {
    case "npm":
      // GitHub's packages are all in the scope of their owner. A name without one is somebody else's in the public registry.
      if (!packageName.startsWith("@")) return undefined;
      return `npm install ${quoted(`${packageName}@${id}`)}`;
    case "nuget":
      return `dotnet add package ${quoted(packageName)} --version ${quoted(id)}`;
    case "rubygems":
      return `gem install ${quoted(packageName)} --version ${quoted(id)}`;
    case "maven":
      return `mvn dependency:get -Dartifact=${quoted(`${packageName.replace(/\.([^.]+)$/, ":$1")}:${id}`)}`;
    default:
      return undefined;
  }
}
