// The gallery: every picture drawn here, the newest first.

import { announce, find, make, show } from "./dom.js";
import { addressOf, letGo } from "./pictures.js";
import { MOST, openStore } from "./store.js";

export class Gallery {
  #entries = [];
  #store = null;
  #chosen;
  #gone;
  #sure = false;
  #unkept = 0;

  /** `chosen` hears of the entry that somebody wants to see, `gone` of the ids of those that are deleted. */
  constructor(chosen, gone) {
    this.#chosen = chosen;
    this.#gone = gone;
    find("clear-gallery").addEventListener("click", () => this.#clear());
    find("clear-gallery").addEventListener("blur", () => this.#ask(false));
  }

  async open() {
    this.#store = await openStore();
    this.#entries = await this.#store.all();
    find("gallery").replaceChildren(...this.#entries.map((entry) => this.#thumbnail(entry)));
    this.#count();
  }

  /** Keep a picture; the entry comes back with its id. */
  async add(entry) {
    const kept = await this.#kept(entry);
    this.#entries.unshift(kept.entry);
    find("gallery").prepend(this.#thumbnail(kept.entry));
    this.#forget(kept.gone);
    return kept.entry;
  }

  async remove(entry) {
    await this.#store.remove(entry.id);
    this.#forget([entry.id]);
    announce("The picture is deleted.");
  }

  /** Mark the picture that is looked at; null for none. */
  mark(entry) {
    for (const button of find("gallery").querySelectorAll("button")) {
      button.setAttribute("aria-current", button.dataset.id === String(entry?.id));
    }
  }

  async #kept(entry) {
    try {
      return await this.#store.add(entry);
    } catch {
      // the disk is full, or this browser keeps no more: it is shown all the same
      this.#unkept += 1;
      const gone = this.#entries.slice(MOST - 1).map(({ id }) => id);
      return { entry: { ...entry, id: `unkept-${this.#unkept}` }, gone };
    }
  }

  #forget(ids) {
    const gone = new Set(ids);
    for (const { id, blob } of this.#entries) {
      if (!gone.has(id)) continue;
      letGo(blob);
      find("gallery").querySelector(`li:has([data-id="${id}"])`).remove();
    }
    this.#entries = this.#entries.filter(({ id }) => !gone.has(id));
    this.#gone(gone);
    this.#count();
  }

  async #clear() {
    if (!this.#sure) {
      this.#ask(true);
      return;
    }
    this.#ask(false);
    await this.#store.clear();
    this.#forget(this.#entries.map(({ id }) => id));
    announce("The gallery is empty.");
    find("prompt").focus();
  }

  #ask(sure) {
    this.#sure = sure;
    find("clear-gallery").textContent = sure ? "Delete all?" : "Clear";
  }

  #count() {
    const some = this.#entries.length > 0;
    show(find("gallery-empty"), !some);
    show(find("clear-gallery"), some);
    find("gallery-count").textContent = some ? String(this.#entries.length) : "";
  }

  #thumbnail(entry) {
    const picture = make("img", { src: addressOf(entry.blob), alt: "", loading: "lazy" });
    const label = `${entry.settings.prompt || "no prompt"}, seed ${entry.seed}`;
    const button = make("button", { type: "button", title: label, "aria-label": label, dataset: { id: String(entry.id) } }, picture);
    button.addEventListener("click", () => this.#chosen(entry));
    return make("li", {}, button);
  }
}
