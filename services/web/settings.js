// The form's settings: filled in from what the server allows, read for a request, and written back from a picture's.

import { find, make, show } from "./dom.js";
import { versionFields } from "./versions.js";
import { sidesOf, sizesFor } from "./sizes.js";

const PLAIN = ["prompt", "negative_prompt", "size", "steps", "guidance", "sampler", "schedule", "seed", "n", "components"];
const OWN_SIZE = "own";
// of a picture's story, not of its request
const NOT_SENT = ["strength", "store_latents"];

/** Everything below `Settings` in the form; `said` are the server's capabilities. */
export class Settings {
  #said;
  #versions;
  #further = {};

  constructor(said) {
    this.#said = said;
    this.#fillIn();
    this.#versions = versionFields(said.components);
    this.reset();
    find("size").addEventListener("change", () => this.#sizeChosen());
    find("sampler").addEventListener("change", () => this.#listSchedules());
    pair("steps");
    pair("guidance");
    find("seed").addEventListener("input", () => this.#lock(find("seed").value !== ""));
    find("lock").addEventListener("click", () => this.#lock(find("lock").getAttribute("aria-pressed") !== "true"));
    find("reset").addEventListener("click", () => this.reset());
  }

  /** Whether a picture is edited: then its own proportions are a size too. */
  edits(yes) {
    const select = find("size");
    const like = select.querySelector("option[value='']");
    if (yes && like === null) {
      select.prepend(make("option", { value: "", textContent: "Like the picture" }));
      select.value = "";
    } else if (!yes && like !== null) {
      if (select.value === "") select.value = this.#said.defaults.size;
      like.remove();
    }
    this.#sizeChosen();
  }

  reset() {
    const { size, steps, guidance, sampler, schedule } = this.#said.defaults;
    const like = find("size").querySelector("option[value='']") !== null;
    this.#write({ size: like ? "" : size, steps, guidance, sampler, schedule, n: 1 });
  }

  /** The fields of a request; a seed that is not locked is left to the server. */
  read() {
    const fields = { ...this.#further, prompt: find("prompt").value, n: Number(find("count").value) };
    const negative = find("negative").value;
    if (negative.trim() !== "") fields.negative_prompt = negative;
    if (this.#size() !== "") fields.size = this.#size();
    fields.steps = Number(find("steps").value);
    fields.guidance = Number(find("guidance").value);
    fields.sampler = find("sampler").value;
    fields.schedule = find("schedule").value;
    if (this.#locked() && find("seed").value !== "") fields.seed = find("seed").value;
    const components = this.#versions.read();
    if (Object.keys(components).length) fields.components = components;
    if (find("keep-latents").checked) fields.store_latents = true;
    return fields;
  }

  /** Load a request's fields; what it leaves out is the default. */
  load(fields) {
    const { size, steps, guidance, sampler, schedule } = this.#said.defaults;
    find("prompt").value = fields.prompt ?? "";
    find("negative").value = fields.negative_prompt ?? "";
    find("negative-more").open = find("negative").value !== "";
    find("prompt").dispatchEvent(new Event("input"));
    this.#write({ size, steps, guidance, sampler, schedule, n: 1, ...fields });
  }

  /** Show the seed that a picture was drawn with, where nobody chose one. */
  showSeed(seed) {
    if (!this.#locked()) find("seed").value = seed;
  }

  #fillIn() {
    const { defaults, limits, samplers } = this.#said;
    const sizes = sizesFor(defaults.size, limits).map(([textContent, value]) => make("option", { value, textContent }));
    find("size").replaceChildren(...sizes, make("option", { value: OWN_SIZE, textContent: "Another…" }));
    for (const id of ["width", "height"]) {
      Object.assign(find(id), { min: limits.min_side, max: limits.pixels, step: limits.side_multiple, required: true });
    }
    find("sampler").replaceChildren(
      ...samplers.map(({ name, label }) => make("option", { value: name, textContent: label })),
    );
    bound("steps", limits.steps, 60);
    bound("guidance", limits.guidance, 15);
    find("count").max = limits.images;
    for (const id of ["prompt", "negative"]) find(id).maxLength = limits.prompt_characters;
  }

  #write(fields) {
    this.#writeSize(fields.size);
    for (const name of ["steps", "guidance"]) {
      find(name).value = fields[name];
      find(`${name}-range`).value = fields[name];
    }
    // a name of another program's, or of a newer server, is sent as it is
    choose(find("sampler"), fields.sampler);
    this.#listSchedules(fields.schedule);
    find("seed").value = fields.seed ?? "";
    this.#lock(fields.seed !== undefined);
    find("count").value = fields.n ?? 1;
    this.#versions.write(fields.components ?? {});
    const { defaults } = this.#said;
    const told = ([name, value]) => !PLAIN.includes(name) && !NOT_SENT.includes(name) && value !== defaults[name];
    const rest = Object.entries(fields).filter(told);
    this.#further = Object.fromEntries(rest);
    this.#showFurther();
  }

  #writeSize(size) {
    const select = find("size");
    const known = [...select.options].some(({ value }) => value === size);
    select.value = known ? size : OWN_SIZE;
    const [width, height] = sidesOf(known && size !== "" ? size : known ? this.#said.defaults.size : size);
    find("width").value = width;
    find("height").value = height;
    this.#sizeChosen();
  }

  #size() {
    const { value } = find("size");
    return value === OWN_SIZE ? `${find("width").value}x${find("height").value}` : value;
  }

  #sizeChosen() {
    const own = find("size").value === OWN_SIZE;
    show(find("own-size"), own);
    for (const id of ["width", "height"]) find(id).disabled = !own;
  }

  #listSchedules(wanted = find("schedule").value) {
    const { samplers, schedules } = this.#said;
    const sampler = samplers.find(({ name }) => name === find("sampler").value);
    const taken = sampler?.schedules ?? ["default"];
    const label = (name) => schedules.find((one) => one.name === name)?.label ?? name;
    const select = find("schedule");
    select.replaceChildren(...taken.map((value) => make("option", { value, textContent: label(value) })));
    select.value = taken.includes(wanted) ? wanted : taken[0];
    select.disabled = taken.length < 2;
  }

  #locked() {
    return find("lock").getAttribute("aria-pressed") === "true";
  }

  #lock(yes) {
    find("lock").setAttribute("aria-pressed", yes);
    find("lock").textContent = yes ? "Locked" : "Lock";
  }

  #showFurther() {
    const chips = Object.entries(this.#further).map(([name, value]) => {
      const text = `${name} ${value}`;
      const chip = make("button", { type: "button", className: "chip", textContent: `${text} ×`, "aria-label": `Remove ${text}` });
      chip.addEventListener("click", () => {
        delete this.#further[name];
        this.#showFurther();
        find("reset").focus();
      });
      return chip;
    });
    find("further").replaceChildren(...chips);
    show(find("further"), chips.length > 0);
  }
}

/** A slider and a number that follow each other; the number may go further. */
export function pair(id) {
  const number = find(id);
  const range = find(`${id}-range`);
  range.addEventListener("input", () => {
    number.value = range.value;
  });
  number.addEventListener("input", () => {
    range.value = number.value;
  });
}

function bound(id, most, usual) {
  find(id).max = most;
  find(`${id}-range`).max = Math.min(most, usual);
}

function choose(select, value) {
  if (![...select.options].some((option) => option.value === value)) {
    select.append(make("option", { value, textContent: value }));
  }
  select.value = value;
}
