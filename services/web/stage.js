// The pictures of one drawing, or one of the gallery: as they come, and what made them.

import { find, make, show } from "./dom.js";
import { addressOf, letGo } from "./pictures.js";
import { showTimings } from "./timings.js";

const FACTS = {
  prompt: "Prompt",
  negative_prompt: "Negative prompt",
  steps: "Steps",
  guidance: "Guidance",
  sampler: "Sampler",
  schedule: "Schedule",
};
const KINDS = { text_encoder: "Text encoder", denoiser: "Denoiser", vae_decoder: "VAE decoder" };
const SHORT = new Set(["prompt", "negative_prompt"]);

export class Stage {
  #tiles = [];
  #entries = [];
  #previews = [];
  #selected;

  /** `selected` hears which entry is looked at, null for none. */
  constructor(selected) {
    this.#selected = selected;
  }

  /** Begin a drawing of so many pictures of that size. */
  begin(count, size) {
    this.#clear();
    this.#fill(count, size);
    this.#select(null);
  }

  /** Look at one finished picture. */
  open(entry) {
    this.#clear();
    this.#fill(1, entry.size);
    this.finish(0, entry);
  }

  preview(index, blob) {
    this.#tiles[index].picture.src = addressOf(blob);
    this.#tiles[index].tile.classList.remove("waiting");
    this.#previews.push(blob);
  }

  finish(index, entry) {
    const { tile, picture } = this.#tiles[index];
    picture.src = addressOf(entry.blob);
    picture.alt = `${entry.settings.prompt || "A picture"}, seed ${entry.seed}`;
    tile.classList.remove("waiting");
    if (tile instanceof HTMLButtonElement) tile.disabled = false;
    this.#entries[index] = entry;
    if (this.#entries.filter(Boolean).length === 1) this.#select(entry);
  }

  /** Keep what is finished of a drawing that ended early. */
  end() {
    const done = (_, index) => this.#entries[index] !== null;
    this.#tiles.forEach(({ tile }, index) => done(tile, index) || tile.remove());
    this.#tiles = this.#tiles.filter(done);
    this.#entries = this.#entries.filter((entry) => entry !== null);
    for (const blob of this.#previews.splice(0)) letGo(blob);
    if (this.#entries.length === 0) this.empty();
  }

  /** Show no more what is deleted. */
  forget(ids) {
    const before = this.#entries;
    const stays = (_, index) => !ids.has(before[index]?.id);
    if (before.every(stays)) return;
    this.#tiles.forEach(({ tile }, index) => stays(tile, index) || tile.remove());
    this.#tiles = this.#tiles.filter(stays);
    this.#entries = before.filter(stays);
    if (this.#entries.length === 0) this.empty();
    else this.#select(this.#entries.find((entry) => entry !== null) ?? null);
  }

  empty() {
    this.#clear();
    show(find("viewer"), false);
    show(find("empty"));
    this.#select(null);
  }

  #fill(count, size) {
    const [width, height] = size.split("x").map(Number);
    this.#entries = Array(count).fill(null);
    this.#tiles = this.#entries.map((_, index) => {
      const picture = make("img", { alt: `Picture ${index + 1}, not done yet`, width, height });
      // it has no size of its own before there is something in it
      picture.style.aspectRatio = `${width} / ${height}`;
      return { tile: count === 1 ? make("div", {}, picture) : this.#choice(picture), picture };
    });
    for (const { tile } of this.#tiles) tile.className = "tile waiting";
    find("viewer").dataset.count = count;
    find("viewer").replaceChildren(...this.#tiles.map(({ tile }) => tile));
    show(find("viewer"));
    show(find("empty"), false);
  }

  /** A picture among several, to look at what made it. */
  #choice(picture) {
    const tile = make("button", { type: "button", disabled: true, "aria-pressed": "false" }, picture);
    tile.addEventListener("click", () => this.#select(this.#entries[this.#tiles.findIndex((one) => one.tile === tile)]));
    return tile;
  }

  #clear() {
    this.#tiles = [];
    this.#entries = [];
    find("viewer").replaceChildren();
  }

  #select(entry) {
    this.#tiles.forEach(({ tile }, index) => {
      const chosen = entry !== null && this.#entries[index] === entry;
      if (tile instanceof HTMLButtonElement) tile.setAttribute("aria-pressed", chosen);
    });
    show(find("details"), entry !== null);
    if (entry !== null) tell(entry);
    this.#selected(entry);
  }
}

function tell(entry) {
  const link = find("download");
  link.href = addressOf(entry.blob);
  link.download = `latentworks-${entry.seed}.${entry.blob.type.split("/")[1]}`;
  showTimings(entry);
  find("told").textContent = remarks(entry).join(" ");
  show(find("told"), find("told").textContent !== "");
  find("facts").replaceChildren(
    ...facts(entry).map(([name, value, wide]) =>
      make("div", { className: wide ? "wide" : "" }, make("dt", { textContent: name }), make("dd", { textContent: value })),
    ),
  );
}

function facts({ settings, seed, size, versions, edited, milliseconds }) {
  const set = Object.entries(FACTS).filter(([name]) => settings[name] !== undefined && settings[name] !== "");
  return [
    ...set.filter(([name]) => SHORT.has(name)).map(([name, label]) => [label, settings[name], true]),
    ["Seed", seed],
    ["Size", size.replace("x", " × ")],
    ...set.filter(([name]) => !SHORT.has(name)).map(([name, label]) => [label, settings[name]]),
    ...(edited === null ? [] : [["Strength", edited.strength]]),
    ...Object.entries(versions).filter(([kind]) => kind in KINDS).map(([kind, version]) => [KINDS[kind], version]),
    ["Time, as seen here", `${(milliseconds / 1000).toFixed(1)} s`],
  ];
}

function remarks({ truncated, fellBack, edited }) {
  const told = [];
  if (truncated) told.push("The prompt is longer than the model reads, and was cut.");
  if (fellBack) told.push("The chosen VAE decoder gave no picture; another made it.");
  if (edited !== null) told.push(`Made from a picture${edited.masked ? " with a mask" : ""}, which is not kept.`);
  return told;
}
