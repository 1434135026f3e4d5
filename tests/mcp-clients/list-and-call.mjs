// node list-and-call.mjs RELEASE URL REVISION HEADERS CALLS
//
// Connects with an official client, lists the tools and calls some, and prints one JSON document.
// RELEASE: v1 (@modelcontextprotocol/sdk) or v2 (@modelcontextprotocol/client). REVISION: the one to speak.
// HEADERS: a JSON object. CALLS: a JSON array of [name, arguments].
const [release, url, revision, headers, calls] = process.argv.slice(2);
const us = { name: `list-and-call-${release}`, version: "1" };
const NEWEST = "2026-07-28";

async function v1() {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  return [new Client(us), StreamableHTTPClientTransport];
}

async function v2() {
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  const how =
    revision === NEWEST ? { versionNegotiation: { mode: { pin: NEWEST } } } : { supportedProtocolVersions: [revision] };
  return [new Client(us, how), StreamableHTTPClientTransport];
}

const [client, Transport] = await { v1, v2 }[release]();
const transport = new Transport(new URL(url), { requestInit: { headers: JSON.parse(headers) } });

// What goes over the wire: v1 always asks for its latest revision, and neither says which one was agreed on.
const send = transport.send.bind(transport);
const asked = [];
transport.send = (message, options) => {
  asked.push(message.method);
  if (release === "v1" && message.method === "initialize") {
    message.params.protocolVersion = revision;
  }
  return send(message, options);
};
let agreed;
const agree = transport.setProtocolVersion.bind(transport);
transport.setProtocolVersion = (version) => {
  agreed = version;
  agree(version);
};

await client.connect(transport);
const { tools } = await client.listTools();
const results = [];
for (const [name, args] of JSON.parse(calls)) {
  results.push(await client.callTool({ name, arguments: args }));
}
console.log(JSON.stringify({ agreed, asked, tools, results }));
await client.close();
