// The versions of each component that a request may name.

import { find, make } from "./dom.js";

const LABELS = { text_encoder: "Text encoder", denoiser: "Denoiser", vae_decoder: "VAE decoder" };
const LIVE = "";

export function selectorOf({ name, version }) {
  return `${name}/${version}`;
}

/** A version as people read it: "v2, candidate". */
export function labelOf({ version, live, aliases }) {
  const told = live ? ["live", ...aliases.filter((alias) => alias !== "production")] : aliases;
  return [`v${version}`, ...told].join(", ");
}

/** A select for each kind; the live version is left to the server, so that a promotion or a canary counts. */
export function versionFields(components) {
  const selects = {};
  const fields = Object.entries(components).map(([kind, versions]) => {
    const select = make("select", { id: `version-${kind}` });
    select.append(...versions.map((one) => option(one.live ? LIVE : selectorOf(one), labelOf(one))));
    select.disabled = versions.length < 2;
    selects[kind] = select;
    return make("div", { className: "field" }, make("label", { htmlFor: select.id, textContent: LABELS[kind] ?? kind }), select);
  });
  find("version-fields").replaceChildren(...fields);
  // only then there is something to compare
  find("keep-latents").checked = (components.vae_decoder ?? []).length > 1;
  return {
    read: () => {
      const chosen = Object.entries(selects).filter(([, { value }]) => value !== LIVE);
      return Object.fromEntries(chosen.map(([kind, { value }]) => [kind, value]));
    },
    write: (wanted) => {
      for (const [kind, select] of Object.entries(selects)) {
        const live = components[kind].find((one) => one.live);
        const selector = wanted[kind];
        const value = selector === undefined || selector === selectorOf(live) ? LIVE : selector;
        if (![...select.options].some((one) => one.value === value)) select.append(option(value, value));
        select.disabled = select.options.length < 2;
        select.value = value;
      }
    },
  };
}

function option(value, textContent) {
  return make("option", { value, textContent });
}
