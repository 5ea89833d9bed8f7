// The mask of an edit, painted over the picture by pointer or keyboard.

import { find, show } from "./dom.js";

// a mask of more pixels says no more, once it is as coarse as latents
const MOST_SIDE = 1024;
const COLOUR = "#2563eb";
const OPAQUE = 128;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Mask {
  #canvas = find("mask");
  #context = this.#canvas.getContext("2d", { willReadFrequently: true });
  #mark = find("brush-mark");
  #tool = "paint";
  #last = null;
  #cursor = null;
  #lowered = false;
  #changed;

  /** `changed` hears whenever there is another mask. */
  constructor(changed) {
    this.#changed = changed;
    this.#byPointer();
    this.#canvas.addEventListener("keydown", (event) => this.#byKey(event));
    this.#canvas.addEventListener("blur", () => this.#lift());
    for (const tool of ["paint", "erase"]) find(tool).addEventListener("click", () => this.#take(tool));
    find("clear-mask").addEventListener("click", () => this.clear());
    find("invert").addEventListener("click", () => this.#invert());
    find("brush").addEventListener("input", () => this.#showMark());
  }

  /** Begin on a picture of that size, with nothing painted. */
  begin(width, height) {
    const scale = Math.min(1, MOST_SIDE / Math.max(width, height));
    this.#canvas.width = Math.max(1, Math.round(width * scale));
    this.#canvas.height = Math.max(1, Math.round(height * scale));
    this.#cursor = { x: this.#canvas.width / 2, y: this.#canvas.height / 2 };
    this.#lift();
    this.#take("paint");
    this.#changed();
  }

  clear() {
    this.#context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    this.#changed();
  }

  isEmpty() {
    const { data } = this.#pixels();
    for (let at = 3; at < data.length; at += 4) if (data[at] >= OPAQUE) return false;
    return true;
  }

  /** A PNG with holes where something is painted, null where nothing is. */
  async file() {
    if (this.isEmpty()) return null;
    const holes = this.#pixels();
    const { width, height, data } = holes;
    for (let at = 0; at < data.length; at += 4) data.set([0, 0, 0, data[at + 3] >= OPAQUE ? 0 : 255], at);
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").putImageData(holes, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  }

  #pixels() {
    return this.#context.getImageData(0, 0, this.#canvas.width, this.#canvas.height);
  }

  #radius() {
    return (Number(find("brush").value) / 100) * Math.max(this.#canvas.width, this.#canvas.height) * 0.5;
  }

  #take(tool) {
    this.#tool = tool;
    for (const one of ["paint", "erase"]) find(one).setAttribute("aria-pressed", one === tool);
  }

  #invert() {
    this.#context.globalCompositeOperation = "xor";
    this.#context.fillStyle = COLOUR;
    this.#context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
    this.#changed();
  }

  #stroke(to) {
    const from = this.#last ?? to;
    const context = this.#context;
    context.globalCompositeOperation = this.#tool === "paint" ? "source-over" : "destination-out";
    context.strokeStyle = COLOUR;
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = 2 * this.#radius();
    context.beginPath();
    context.moveTo(from.x, from.y);
    // a line of no length is drawn as its round ends
    context.lineTo(to.x, to.y);
    context.stroke();
    this.#last = to;
  }

  #byPointer() {
    const canvas = this.#canvas;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.#last = null;
      this.#stroke(this.#placeOf(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      this.#cursor = this.#placeOf(event);
      this.#showMark();
      if (canvas.hasPointerCapture(event.pointerId)) {
        // what the pointer did since the last frame, so that quick strokes stay round
        const passed = event.getCoalescedEvents?.() ?? [];
        for (const one of passed.length ? passed : [event]) this.#stroke(this.#placeOf(one));
      }
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.#changed());
    canvas.addEventListener("pointerleave", () => show(this.#mark, false));
  }

  #byKey(event) {
    const way = KEYS[event.key];
    if (event.key === " ") {
      event.preventDefault();
      this.#lowered = !this.#lowered;
      this.#last = null;
      if (this.#lowered) this.#stroke(this.#cursor);
      this.#changed();
    } else if (way !== undefined) {
      event.preventDefault();
      const step = event.shiftKey ? 1 : Math.max(1, this.#radius() / 2);
      const { width, height } = this.#canvas;
      const [x, y] = [this.#cursor.x + way[0] * step, this.#cursor.y + way[1] * step];
      this.#cursor = { x: Math.min(width, Math.max(0, x)), y: Math.min(height, Math.max(0, y)) };
      if (this.#lowered) {
        this.#stroke(this.#cursor);
        this.#changed();
      }
    } else return;
    this.#showMark();
  }

  #lift() {
    this.#lowered = false;
    this.#last = null;
    show(this.#mark, false);
  }

  #placeOf({ clientX, clientY }) {
    const box = this.#canvas.getBoundingClientRect();
    return {
      x: ((clientX - box.left) / box.width) * this.#canvas.width,
      y: ((clientY - box.top) / box.height) * this.#canvas.height,
    };
  }

  #showMark() {
    if (this.#cursor === null) return;
    const scale = this.#canvas.clientWidth / this.#canvas.width;
    const { style } = this.#mark;
    style.width = style.height = `${2 * this.#radius() * scale}px`;
    style.left = `${this.#cursor.x * scale}px`;
    style.top = `${this.#cursor.y * scale}px`;
    this.#mark.classList.toggle("lowered", this.#lowered);
    show(this.#mark);
  }
}
