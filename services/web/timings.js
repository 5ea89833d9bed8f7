// Where the time of one picture went: a bar for each stage, from when it began to when it was done.

import { timelineOf } from "./api.js";
import { find, make, show } from "./dom.js";

const STAGES = {
  text_encoder_s: "Text encoder",
  vae_encoder_s: "VAE encoder",
  queued_s: "Queue",
  denoiser_s: "Denoiser",
  vae_decoder_s: "VAE decoder",
  file_s: "File",
};
// spans of a timeline by their names; the picture's own stand below it
const SPANS = {
  admission: "Admission",
  held: "Start of a stage",
  text_encoder: "Text encoder",
  vae_encoder: "VAE encoder",
  queue: "Queue",
  run: "Denoiser",
  vae_decoder: "VAE decoder",
  file: "File",
};

let shown = null;

/** Show the times of a picture: by stage, and once its timeline is there span by span. */
export async function showTimings(entry) {
  shown = entry;
  const { timings, request, image } = entry;
  show(find("timings"), Boolean(timings));
  show(find("timeline-said"), false);
  find("stages").replaceChildren(...(timings ? rowsOf(timings).map(drawn) : []));
  if (!request) return;
  const timeline = await timelineOf(request);
  // somebody may look at another one by now, and the server may have none
  if (timeline === null || shown !== entry) return;
  const own = spansOf(timeline.spans, image);
  find("stages").replaceChildren(...waterfall(own, timeline.total_s).map(drawn));
  find("timeline-said").textContent = said(own.filter(({ name }) => name === "run"));
  show(find("timeline-said"));
  show(find("timings"));
}

function rowsOf(timings) {
  const encoded = Math.max(timings.text_encoder_s, timings.vae_encoder_s ?? 0);
  let begun = 0;
  return Object.entries(STAGES)
    .filter(([name]) => timings[name] !== null)
    .map(([name, label]) => {
      const seconds = timings[name];
      // the encoders work side by side, the others one after the other
      if (name === "queued_s") begun = encoded;
      const bars = [[begun / timings.total_s, seconds / timings.total_s]];
      if (!name.endsWith("encoder_s")) begun += seconds;
      return { label, bars, seconds };
    });
}

/** The spans of a timeline that one picture has, and those that all pictures share. */
function spansOf(spans, image) {
  const others = new Set();
  for (const { id, parent, name, facts } of spans) {
    if (others.has(parent) || (name === "picture" && facts.image !== image)) others.add(id);
  }
  return spans.filter(({ id }) => !others.has(id));
}

function waterfall(spans, total) {
  const walks = new Set(spans.filter(({ name }) => name === "walk").map(({ id }) => id));
  return Object.entries(SPANS).flatMap(([name, label]) => {
    // calls wait for a replica too, which is part of their own bars
    const found = spans.filter((span) => span.name === name && (name !== "queue" || walks.has(span.parent)));
    if (found.length === 0) return [];
    const bars = found.map(({ start_s: start, seconds }) => [start / total, seconds / total]);
    return [{ label, bars, seconds: found.reduce((sum, { seconds }) => sum + seconds, 0) }];
  });
}

function said(runs) {
  const count = runs.reduce((sum, { facts }) => sum + facts.runs, 0);
  const rows = runs.map(({ facts }) => facts.rows);
  const [least, most] = [Math.min(...rows), Math.max(...rows)];
  const each = least === most ? `${most}` : `${least} to ${most}`;
  return `${count} ${count === 1 ? "run" : "runs"} of the denoiser, of ${each} rows. Gaps are the ways between the stages.`;
}

function drawn({ label, bars, seconds }) {
  const spans = bars.map(([from, share]) => {
    const bar = make("span", { className: "span" });
    bar.style.insetInlineStart = `${100 * from}%`;
    bar.style.width = `${100 * share}%`;
    return bar;
  });
  return make(
    "li",
    {},
    make("span", { className: "stage-name", textContent: label }),
    make("span", { className: "track", "aria-hidden": "true" }, ...spans),
    make("span", { className: "took", textContent: `${Math.round(1000 * seconds)} ms` }),
  );
}
