// A picture that comes from outside or from the gallery: its story is read, and it may be edited.

import { inspect } from "./api.js";
import { announce, find, show } from "./dom.js";
import { digitsOf } from "./exact.js";
import { Mask } from "./mask.js";
import { addressOf, letGo } from "./pictures.js";
import { pair } from "./settings.js";

const WITH_STORY = ["image/png", "image/jpeg", "image/webp"];
const SOURCES = {
  latentworks: "Made by Latentworks",
  a1111: "Made by a program that writes as A1111 does",
  nothing: "Nothing in the file says how it was made.",
};

export class Source {
  #file = null;
  #request = null;
  #editing = false;
  #touched = false;
  #mask;
  #defaults;
  #handlers;

  /** `handlers`: `load` takes a request's fields, `edits` hears whether a picture is edited, `failed` an error. */
  constructor(defaults, handlers) {
    this.#defaults = defaults;
    this.#handlers = handlers;
    this.#mask = new Mask(() => this.#maskChanged());
    pair("strength");
    this.#edits(false);
    this.#maskChanged();
    for (const id of ["strength", "strength-range"]) find(id).addEventListener("input", () => (this.#touched = true));
    find("choose").addEventListener("click", () => find("file").click());
    find("file").addEventListener("change", ({ target }) => {
      if (target.files.length) this.open(target.files[0]);
      target.value = "";
    });
    find("brought-load").addEventListener("click", () => this.#load());
    find("brought-edit").addEventListener("click", () => this.edit(this.#file));
    find("brought-close").addEventListener("click", () => this.close());
    find("edit-close").addEventListener("click", () => this.close());
    this.#listen();
  }

  get editing() {
    return this.#editing;
  }

  /** What an edit sends beside the settings, null where nothing is edited. */
  async read() {
    if (!this.#editing) return null;
    return { image: this.#file, mask: await this.#mask.file(), strength: Number(find("strength").value) };
  }

  /** Show a picture and what its file says. */
  async open(file) {
    if (!file.type.startsWith("image/")) {
      this.#handlers.failed(new Error("This is no picture."));
      return;
    }
    this.close();
    this.#file = file;
    find("brought-picture").src = addressOf(file);
    find("brought-story").textContent = "Reading…";
    show(find("drop"), false);
    show(find("brought"));
    show(find("brought-load"), false);
    show(find("brought-unknown"), false);
    try {
      const told = WITH_STORY.includes(file.type) ? await inspect(file, file.type) : null;
      if (this.#file === file) this.#tell(told);
    } catch (error) {
      if (this.#file !== file) return;
      find("brought-story").textContent = "Its story could not be read.";
      this.#handlers.failed(error);
    }
  }

  /** Edit a picture. */
  async edit(file) {
    if (this.#file !== file) this.close();
    this.#file = file;
    const picture = find("edit-picture");
    picture.src = addressOf(file);
    try {
      await picture.decode();
    } catch {
      this.close();
      this.#handlers.failed(new Error("This browser cannot show the picture."));
      return;
    }
    this.#touched = false;
    for (const id of ["drop", "brought"]) show(find(id), false);
    show(find("edit"));
    this.#mask.begin(picture.naturalWidth, picture.naturalHeight);
    this.#edits(true);
    find("mask").focus({ preventScroll: true });
    find("source").scrollIntoView({ block: "nearest" });
    announce("The picture can be edited.");
  }

  close() {
    if (this.#file === null) return;
    for (const id of ["brought-picture", "edit-picture"]) find(id).removeAttribute("src");
    // a picture of the gallery is shown there still
    if (this.#file instanceof File) letGo(this.#file);
    this.#file = this.#request = null;
    for (const id of ["brought", "edit"]) show(find(id), false);
    show(find("drop"));
    if (this.#editing) this.#edits(false);
  }

  #edits(yes) {
    this.#editing = yes;
    // what is not seen must not keep the form from being sent
    find("strength").disabled = !yes;
    this.#handlers.edits(yes);
  }

  #tell(text) {
    const told = text === null ? { source: "nothing", request: {}, unknown: [] } : JSON.parse(text);
    const { source, request, unknown } = told;
    for (const name of ["seed", "subseed"]) if (name in request) request[name] = digitsOf(name, text);
    this.#request = request;
    const found = source !== "nothing";
    const said = request.prompt ? `: “${shortened(request.prompt)}”` : found ? "." : "";
    find("brought-story").textContent = SOURCES[source] + said;
    show(find("brought-load"), found);
    find("brought-unknown").textContent = `Not understood: ${unknown.join(" · ")}`;
    show(find("brought-unknown"), unknown.length > 0);
    announce(find("brought-story").textContent);
  }

  #load() {
    this.#handlers.load(this.#request);
    announce("The picture's settings are loaded.");
  }

  #maskChanged() {
    // the server's own defaults: a mask leaves nothing of what it covers
    if (!this.#touched) {
      const strength = this.#mask.isEmpty() ? this.#defaults.strength : 1;
      for (const id of ["strength", "strength-range"]) find(id).value = strength;
    }
  }

  #listen() {
    const over = (event, yes) => {
      if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
      event.preventDefault();
      document.body.classList.toggle("dropping", yes);
    };
    addEventListener("dragover", (event) => over(event, true));
    addEventListener("dragleave", (event) => event.relatedTarget === null && over(event, false));
    addEventListener("drop", (event) => {
      over(event, false);
      const [file] = event.dataTransfer.files;
      if (file) this.open(file);
    });
    addEventListener("paste", (event) => {
      const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
      if (file) this.open(file);
    });
  }
}

function shortened(text) {
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}
