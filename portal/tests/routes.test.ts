import { expect, test } from "vitest";
import { parseRoute, pathOf, type Route } from "../src/routes";

test.each<[string | undefined, Route]>([
  [undefined, { page: "connections" }],
  ["", { page: "connections" }],
  ["connections", { page: "connections" }],
  ["connections/acme", { page: "connection", name: "acme" }],
  ["connections/acme/overview", { page: "connection", name: "acme" }],
  ["repositories", { page: "repositories" }],
  ["repositories/my.repo", { page: "repository", name: "my.repo" }],
  ["repositories/my.repo/overview", { page: "repository", name: "my.repo" }],
  ["/repositories/x/", { page: "repository", name: "x" }],
  ["repositories/x/unknown", { page: "repositories" }],
  ["packages", { page: "packages" }],
  ["packages?x=1", { page: "packages" }],
  ["whatever", { page: "connections" }],
  ["repositories/%E0%A4%A", { page: "repository", name: "%E0%A4%A" }],
])("the sub-path %j is the page %j", (subPath, route) => {
  expect(parseRoute(subPath)).toEqual(route);
});

test.each<Route>([{ page: "connection", name: "a.b" }, { page: "repository", name: "my.repo" }, { page: "repository", name: "a/b?c#d%" }])(
  "the path of %j leads back to it, and its last segment has no dot",
  (route) => {
    const path = pathOf(route);
    expect(parseRoute(path)).toEqual(route);
    expect(path.split("/").at(-1)).not.toContain(".");
  },
);
