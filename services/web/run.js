// One drawing: a request on its way, its news as they come, and its pictures at the end.

import { ApiError, edit, generate } from "./api.js";
import { digitsOf } from "./exact.js";
import { blobOf } from "./pictures.js";

const PREVIEWS = 3;

export class Run {
  #settings;
  #source;
  #previews;
  #stop = new AbortController();
  #steps;
  #places = new Map();
  #brought = null;

  /** `settings` are a request's fields; `source` gives what an edit starts from, or null, when it is read. */
  constructor(settings, source, previews) {
    this.#settings = settings;
    this.#source = source;
    this.#previews = Math.min(PREVIEWS, previews);
    this.#steps = Array(settings.n).fill(0);
    this.count = settings.n;
    this.total = settings.steps;
  }

  /** Leave: the server then stops drawing. */
  cancel() {
    this.#stop.abort();
  }

  get cancelled() {
    return this.#stop.signal.aborted;
  }

  /** The share of all steps that is done. */
  get share() {
    return this.#steps.reduce((sum, step) => sum + step, 0) / (this.total * this.count);
  }

  /** The step that every picture has reached. */
  get step() {
    return Math.min(...this.#steps);
  }

  /** The place in the queue of the picture that is next. */
  get position() {
    return Math.min(...this.#places.values());
  }

  /** `queued`, `step` and `preview` news while it goes, and an `entry` for each picture. */
  async *news() {
    const started = performance.now();
    this.#brought = await this.#source.read();
    let pinned = {};
    let entries = 0;
    for await (const event of this.#asked()) {
      if (event.type === "pinned") pinned = event;
      else if (event.type === "queued") {
        this.#places.set(event.image_index, event.position);
        yield { type: "queued" };
      } else if (event.type === "progress") {
        this.total = event.steps;
        this.#steps[event.image_index] = event.step;
        yield { type: "step" };
      } else if (event.type === "partial_image") {
        yield { type: "preview", index: event.image_index, blob: blobOf(event.b64_json, event.output_format) };
      } else if (event.type === "completed") {
        entries += 1;
        yield { type: "entry", index: event.image_index, entry: this.#entry(event, pinned, performance.now() - started) };
      }
    }
    if (entries < this.count) throw new ApiError("The connection ended before the picture was done.");
  }

  #asked() {
    const fields = { ...this.#settings, stream: true, progress: true, partial_images: this.#previews };
    if (this.#brought === null) return generate(fields, this.#stop.signal);
    const { image, mask, strength } = this.#brought;
    return edit({ ...fields, strength }, image, mask, this.#stop.signal);
  }

  #entry(event, { versions, request }, milliseconds) {
    const { seed, subseed, ...settings } = this.#settings;
    const own = { ...settings, n: 1, size: event.size, seed: digitsOf("seed", event.text) };
    if (event.subseed !== null) own.subseed = digitsOf("subseed", event.text);
    const { fallback } = event;
    const brought = this.#brought;
    return {
      blob: blobOf(event.b64_json, event.output_format),
      settings: own,
      seed: own.seed,
      size: event.size,
      versions: fallback === null ? versions : { ...versions, vae_decoder: `${fallback.name}/${fallback.version}` },
      latents: event.latents,
      truncated: event.prompt_truncated || event.negative_prompt_truncated,
      fellBack: fallback !== null,
      edited: brought === null ? null : { strength: brought.strength, masked: brought.mask !== null },
      milliseconds,
      timings: event.timings,
      request,
      image: event.image_index,
      created: Date.now(),
    };
  }
}
