export interface ServerEvent {
  readonly name: string;
  readonly data: string;
}

/** One event may hold a whole object, which kcp bounds at 1.5 MB. */
const LONGEST_EVENT = 4 << 20;

/** The events of a stream as the standard writes them, without ids and retry times. */
export async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += decoder.decode(value, { stream: true }).replaceAll("\r\n", "\n");
      const blocks = rest.split("\n\n");
      rest = blocks.pop() ?? "";
      if (rest.length > LONGEST_EVENT) throw new RangeError("an event is too long");
      for (const block of blocks) {
        const event = parse(block);
        if (event) yield event;
      }
    }
  } finally {
    // Without this, leaving the loop would leave the connection open.
    await reader.cancel().catch(() => undefined);
  }
}

function parse(block: string): ServerEvent | undefined {
  let name = "message";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const [field, value] = split(line);
    if (field === "event") name = value;
    if (field === "data") data.push(value);
  }
  return data.length > 0 || name !== "message" ? { name, data: data.join("\n") } : undefined;
}

function split(line: string): [string, string] {
  const colon = line.indexOf(":");
  return colon < 0 ? [line, ""] : [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, "")];
}
