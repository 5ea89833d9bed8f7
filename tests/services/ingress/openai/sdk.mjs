// OpenAI's client for Node against the server whose address is the argument; what it saw goes to standard output.
import OpenAI from "openai";

const [baseURL] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const seen = {};

const whole = await client.images.generate({
  prompt: "a red apple", n: 2, size: "128x64", quality: "low", output_format: "webp", seed: 5,
});
seen.pictures = whole.data.map((one) => one.b64_json);
seen.answer = { size: whole.size, quality: whole.quality, background: whole.background, usage: whole.usage };

const linked = await client.images.generate({ prompt: "a", response_format: "url" });
const shown = await fetch(linked.data[0].url);
seen.link = { status: shown.status, type: shown.headers.get("content-type") };

seen.events = [];
const stream = await client.images.generate({
  prompt: "a red apple", stream: true, partial_images: 2, steps: 9, progress: true,
});
for await (const event of stream) {
  seen.events.push({ type: event.type, index: event.partial_image_index, picture: event.b64_json, step: event.step });
}

async function error(body) {
  try {
    const answer = await client.images.generate(body);
    if (body.stream) for await (const _event of answer);
  } catch (raised) {
    return { name: raised.constructor.name, status: raised.status, code: raised.code, param: raised.param };
  }
}
seen.refused = await error({ prompt: "a", style: "vivid" });
seen.missing = await error({ prompt: "a", model: "dall-e-3" });
seen.broken = await error({ prompt: "a broken picture", stream: true, partial_images: 1 });

console.log(JSON.stringify(seen));
