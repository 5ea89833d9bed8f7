// Two VAE decoders side by side, on the latents of one picture.

import { compare } from "./api.js";
import { announce, find, make, show } from "./dom.js";
import { differenceOf } from "./difference.js";
import { blobOf, pixelsOf } from "./pictures.js";
import { labelOf, selectorOf } from "./versions.js";

export class Comparison {
  #latents = null;
  #asking = null;
  #versions;

  constructor(versions) {
    this.#versions = versions;
    const options = () =>
      versions.map((one) => make("option", { value: selectorOf(one), textContent: labelOf(one) }));
    find("first").replaceChildren(...options());
    find("second").replaceChildren(...options());
    find("compare").addEventListener("click", () => this.#compare());
    find("comparison-close").addEventListener("click", () => this.close());
    find("wipe-at").addEventListener("input", () => this.#wipe());
  }

  /** Compare on the latents of that id, the version that made their picture with another. */
  open(latents, decoder) {
    this.#latents = latents;
    const selectors = this.#versions.map(selectorOf);
    find("first").value = selectors.includes(decoder) ? decoder : selectors[0];
    find("second").value = selectors.find((one) => one !== find("first").value);
    show(find("compared"), false);
    show(find("compare-problem"), false);
    show(find("comparison"));
    find("comparison").scrollIntoView({ block: "nearest" });
    find("comparison").focus({ preventScroll: true });
    this.#compare();
  }

  close() {
    this.#asking?.abort();
    this.#latents = null;
    show(find("comparison"), false);
  }

  get possible() {
    return this.#versions.length > 1;
  }

  async #compare() {
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    find("comparison").setAttribute("aria-busy", "true");
    show(find("compare-problem"), false);
    try {
      const found = await compare(this.#latents, find("first").value, find("second").value, asking.signal);
      if (!asking.signal.aborted) await this.#show(found);
    } catch (error) {
      if (error.name === "AbortError") return;
      show(find("compared"), false);
      find("compare-problem").textContent = error.message;
      show(find("compare-problem"));
    } finally {
      if (this.#asking === asking) find("comparison").removeAttribute("aria-busy");
    }
  }

  async #show(found) {
    const [a, b] = await Promise.all(found.data.map(({ b64_json: file }) => pixelsOf(blobOf(file, "png"))));
    const { image, factor } = differenceOf(a, b);
    for (const [id, pixels] of [["picture-a", a], ["picture-b", b], ["difference", image], ["wipe-a", a], ["wipe-b", b]]) {
      paint(find(id), pixels);
    }
    name(found.data.map(({ vae_decoder: pin }) => selectorOf(pin)), factor);
    tell(found);
    this.#wipe();
    show(find("compared"));
  }

  #wipe() {
    find("wipe").style.setProperty("--at", `${find("wipe-at").value}%`);
  }
}

/** Say by whom the pictures are. */
function name([first, second], factor) {
  const labels = { "picture-a": `Picture by ${first}`, "picture-b": `Picture by ${second}`, difference: "Map of the difference" };
  for (const [id, label] of Object.entries(labels)) {
    find(id).setAttribute("role", "img");
    find(id).setAttribute("aria-label", label);
  }
  find("name-a").textContent = `A: ${first}`;
  find("name-b").textContent = `B: ${second}`;
  find("name-difference").textContent = factor === 1 ? "Difference" : `Difference, ${factor} times`;
}

function tell({ identical, psnr_db: psnr, max_difference: largest }) {
  const figures = {
    PSNR: identical ? "∞, they are the same" : `${psnr.toFixed(2)} dB`,
    "Largest difference": `${largest} of 255`,
  };
  const shown = Object.entries(figures).flatMap(([term, value]) => [
    make("dt", { textContent: term }),
    make("dd", { textContent: value }),
  ]);
  find("figures").replaceChildren(...shown);
  announce(`Compared: PSNR ${figures.PSNR}, largest difference ${figures["Largest difference"]}.`);
}

function paint(canvas, pixels) {
  canvas.width = pixels.width;
  canvas.height = pixels.height;
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}
