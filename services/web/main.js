// The page: its parts put together.

import { ApiError, capabilities, hasKey, useKey } from "./api.js";
import { Comparison } from "./comparison.js";
import { announce, find, make, show } from "./dom.js";
import { Drawing } from "./drawing.js";
import { Gallery } from "./gallery.js";
import { showProblem } from "./problem.js";
import { Settings } from "./settings.js";
import { Source } from "./source.js";
import { Stage } from "./stage.js";
import { inStyle, styleIn, stylesOf } from "./styles.js";

let assembled = false;

async function start() {
  let said;
  try {
    said = await capabilities();
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) askForKey();
    else showProblem(error, start);
    return;
  }
  show(find("access"), false);
  find("model").textContent = said.model;
  show(find("model"));
  // a key may be asked for again later
  if (assembled) return;
  assembled = true;
  await assemble(said);
  find("draw").disabled = false;
}

function askForKey() {
  if (hasKey()) find("access-said").textContent = "This key is none of the server's. It is kept in this tab only.";
  show(find("access"));
  find("key").focus();
}

async function assemble(said) {
  const settings = new Settings(said);
  const comparison = new Comparison(said.components.vae_decoder);
  let shown = null;
  const look = (entry) => {
    if (drawing.underway) return;
    stage.open(entry);
    find("stage").scrollIntoView({ block: "nearest" });
    find("stage").focus({ preventScroll: true });
  };
  const gallery = new Gallery(look, (ids) => stage.forget(ids));
  const stage = new Stage((entry) => {
    shown = entry;
    gallery.mark(entry);
    comparison.close();
    offerComparison(entry, comparison.possible);
  });
  const source = new Source(said.defaults, {
    load: (fields) => settings.load(fields),
    edits: (yes) => settings.edits(yes),
    failed: showProblem,
  });
  const drawing = new Drawing({ settings, source, stage, gallery, said, refused: askForKey });
  find("reuse").addEventListener("click", () => {
    // exactly the versions that made it, also where others are live by now
    settings.load({ ...shown.settings, components: shown.versions });
    announce("The picture's settings are loaded.");
    find("prompt").focus();
  });
  find("edit-this").addEventListener("click", () => source.edit(shown.blob));
  find("compare-this").addEventListener("click", () => comparison.open(shown.latents, shown.versions.vae_decoder));
  find("remove").addEventListener("click", async () => {
    await gallery.remove(shown);
    find("stage").focus({ preventScroll: true });
  });
  offerStyles(stylesOf(said.model));
  await gallery.open();
}

function offerComparison(entry, possible) {
  if (entry === null) return;
  find("compare-this").disabled = !possible || entry.latents === null;
  const why = possible ? "Its latents are not kept: see Versions, in the settings." : "";
  find("compare-why").textContent = why;
  show(find("compare-why"), possible && entry.latents === null);
}

function offerStyles(styles) {
  const prompt = find("prompt");
  const chips = styles.map((style) => make("button", { type: "button", className: "chip", textContent: style, "aria-pressed": "false" }));
  const mark = () => {
    const own = styleIn(prompt.value, styles);
    chips.forEach((chip) => chip.setAttribute("aria-pressed", chip.textContent === own));
  };
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      const own = styleIn(prompt.value, styles);
      prompt.value = inStyle(prompt.value, own === chip.textContent ? null : chip.textContent, styles);
      mark();
    });
  }
  prompt.addEventListener("input", mark);
  find("styles").replaceChildren(...chips);
  show(find("styles"), chips.length > 0);
  mark();
}

find("access").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(find("key").value.trim());
  find("key").value = "";
  start();
});
start();
