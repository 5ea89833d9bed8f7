// Where the time of one picture went: a bar for each stage, from when it began to when it was done.

import { find, make, show } from "./dom.js";

const STAGES = {
  text_encoder_s: "Text encoder",
  vae_encoder_s: "VAE encoder",
  queued_s: "Queue",
  denoiser_s: "Denoiser",
  vae_decoder_s: "VAE decoder",
  file_s: "File",
};

/** Show the times of a picture, in seconds by stage; null or nothing hides them. */
export function showTimings(timings) {
  show(find("timings"), Boolean(timings));
  find("stages").replaceChildren(...(timings ? bars(timings) : []));
}

function bars(timings) {
  const encoded = Math.max(timings.text_encoder_s, timings.vae_encoder_s ?? 0);
  let begun = 0;
  return Object.entries(STAGES)
    .filter(([name]) => timings[name] !== null)
    .map(([name, label]) => {
      const seconds = timings[name];
      // the encoders work side by side, the others one after the other
      if (name === "queued_s") begun = encoded;
      const row = rowOf(label, begun / timings.total_s, seconds / timings.total_s, seconds);
      if (!name.endsWith("encoder_s")) begun += seconds;
      return row;
    });
}

function rowOf(label, from, share, seconds) {
  const bar = make("span", { className: "span" });
  bar.style.marginInlineStart = `${100 * from}%`;
  bar.style.width = `${100 * share}%`;
  return make(
    "li",
    {},
    make("span", { className: "stage-name", textContent: label }),
    make("span", { className: "track", "aria-hidden": "true" }, bar),
    make("span", { className: "took", textContent: `${Math.round(1000 * seconds)} ms` }),
  );
}
