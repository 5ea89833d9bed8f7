// From Draw to the pictures: one drawing at a time, that can be left.

import { ApiError } from "./api.js";
import { announce, find, show } from "./dom.js";
import { hideProblem, showProblem } from "./problem.js";
import { Run } from "./run.js";

export class Drawing {
  #run = null;
  #parts;
  #quarter = 0;

  /** `parts`: settings, source, stage, gallery, said (the capabilities), and refused, which asks for a key. */
  constructor(parts) {
    this.#parts = parts;
    find("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.draw();
    });
    find("cancel").addEventListener("click", () => this.#run?.cancel());
    addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        if (find("form").reportValidity()) this.draw();
      }
      if (event.key === "Escape") this.#run?.cancel();
    });
  }

  get underway() {
    return this.#run !== null;
  }

  async draw() {
    if (this.underway) return;
    const { settings, source, stage, said } = this.#parts;
    const fields = settings.read();
    if (fields.prompt.trim() === "" && !source.editing) {
      showProblem(new Error("Write what to draw first."));
      find("prompt").focus();
      return;
    }
    hideProblem();
    const run = (this.#run = new Run(fields, source, said.limits.partial_images));
    stage.begin(run.count, fields.size ?? said.defaults.size);
    this.#begin();
    try {
      await this.#follow(run);
      announce(run.count === 1 ? "The picture is done." : `The ${run.count} pictures are done.`);
    } catch (error) {
      this.#failed(error, run);
    } finally {
      stage.end();
      this.#end();
    }
  }

  async #follow(run) {
    const { settings, stage, gallery } = this.#parts;
    for await (const news of run.news()) {
      if (news.type === "queued") this.#wait(run);
      else if (news.type === "step") this.#tell(run);
      else if (news.type === "preview") stage.preview(news.index, news.blob);
      else {
        const entry = await gallery.add(news.entry);
        stage.finish(news.index, entry);
        if (news.index === 0) settings.showSeed(entry.seed);
      }
    }
  }

  #failed(error, run) {
    if (run.cancelled) announce("Cancelled.");
    else if (error instanceof ApiError) {
      if (error.status === 401) this.#parts.refused();
      // what is refused for what it says would be so again
      const passes = error.status === 0 || error.status === 429 || error.status >= 500;
      showProblem(error, passes ? () => this.draw() : null);
    } else throw error;
  }

  #begin() {
    this.#quarter = 0;
    find("bar").removeAttribute("value");
    find("progress-said").textContent = "Waiting for the first step";
    show(find("progress"));
    swap("draw", "cancel");
    announce("Drawing.");
  }

  #wait(run) {
    // pictures of one drawing may wait while others of it are drawn
    if (run.share === 0) find("progress-said").textContent = `Position ${run.position} in the queue`;
  }

  #tell(run) {
    const { share, step, total } = run;
    find("bar").value = share;
    find("progress-said").textContent = share < 1 ? `Step ${step} of ${total}` : "All steps done, decoding";
    // not every step is worth saying
    if (Math.floor(4 * share) > this.#quarter) {
      this.#quarter = Math.floor(4 * share);
      announce(`${25 * this.#quarter} percent.`);
    }
  }

  #end() {
    this.#run = null;
    show(find("progress"), false);
    swap("cancel", "draw");
  }
}

/** Put a button in another's place; who was on the one is on the other. */
function swap(from, to) {
  const focused = document.activeElement === find(from);
  show(find(to));
  if (focused) find(to).focus({ preventScroll: true });
  show(find(from), false);
}
