// Server-sent events out of an answer's body, as the WHATWG standard has them.

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let begun = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const pieces = value.split("\n");
      pieces[0] = begun + pieces[0];
      begun = pieces.pop();
      for (const piece of pieces) yield piece.endsWith("\r") ? piece.slice(0, -1) : piece;
    }
  } finally {
    // whoever stops reading wants no more of it
    reader.cancel().catch(() => {});
  }
}

/** Each event as `{ type, data }`; one that the stream ends within is none. */
export async function* events(stream) {
  let type = "message";
  let data = [];
  for await (const line of lines(stream)) {
    if (line === "") {
      if (data.length) yield { type, data: data.join("\n") };
      type = "message";
      data = [];
      continue;
    }
    const colon = line.indexOf(":");
    if (colon === 0) continue;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") type = value;
    else if (field === "data") data.push(value);
  }
}
