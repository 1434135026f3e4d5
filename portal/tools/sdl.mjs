// Reads the introspection of the GraphQL gateway from standard input and writes the part of it that the portal may use, as SDL.
//
// With --query it writes the request instead whose answer it reads.
//
// A workspace's whole schema has thousands of types, and most are those of other providers. What stays are the fields of the
// roots that concern this provider, and the types that they reach.
import { buildClientSchema, getIntrospectionQuery, getNamedType, isInputObjectType, isInterfaceType, isObjectType, lexicographicSortSchema, printSchema } from "graphql";

const GROUP = "code_kedge_faros_sh";
/** Of the core group: what a credential and a key pair need. */
const CORE = { Query: ["Secret"], Mutation: ["createSecret", "updateSecret", "deleteSecret"], Subscription: [] };

if (process.argv.includes("--query")) {
  // The gateway takes no query that is nested deeper.
  process.stdout.write(JSON.stringify({ query: getIntrospectionQuery({ descriptions: false, typeDepth: 4 }) }));
  process.exit(0);
}

let text = "";
for await (const chunk of process.stdin) text += chunk;
const introspection = JSON.parse(text);
const schema = introspection.data?.__schema ?? introspection.__schema;
const byName = new Map(schema.types.map((type) => [type.name, type]));
const core = /^v1$/;
/** The one way to take a field away: the gateway drops nulls of a merge. */
const APPLY = "applyYaml";

for (const [root, kept] of Object.entries(CORE)) {
  const type = byName.get(schema[`${root.toLowerCase()}Type`]?.name);
  if (!type) continue;
  type.fields = type.fields.filter(({ name }) => name === GROUP || name.startsWith(`${GROUP}_`) || name === APPLY || core.test(name));
  for (const field of type.fields.filter(({ name }) => core.test(name))) {
    const group = byName.get(nameOf(field.type));
    group.fields = group.fields.filter(({ name }) => kept.includes(name));
    if (group.fields.length === 0) type.fields = type.fields.filter((other) => other !== field);
  }
}

// Requests of agents, which no page shows.
const REQUESTS = /repository(commit|checkout|buildstatus)/i;
for (const type of schema.types) {
  if (type.fields) type.fields = type.fields.filter(({ name }) => !REQUESTS.test(name));
}

const reached = new Set(["String", "Boolean"]);
const built = buildClientSchema({ __schema: schema }, { assumeValid: true });
for (const root of [built.getQueryType(), built.getMutationType(), built.getSubscriptionType()]) if (root) reach(root);
schema.types = schema.types.filter(({ name }) => reached.has(name) || name.startsWith("__"));
process.stdout.write(`${printSchema(lexicographicSortSchema(buildClientSchema({ __schema: schema }, { assumeValid: true })))}\n`);

function nameOf(type) {
  return type.ofType ? nameOf(type.ofType) : type.name;
}

function reach(type) {
  if (reached.has(type.name)) return;
  reached.add(type.name);
  if (!isObjectType(type) && !isInputObjectType(type) && !isInterfaceType(type)) return;
  for (const field of Object.values(type.getFields())) {
    reach(getNamedType(field.type));
    for (const argument of field.args ?? []) reach(getNamedType(argument.type));
  }
}
