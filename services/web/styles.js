// The styles that a bundle learned, as its captions end: "red apple, 3d style".

const STYLES = { emoji: ["3d style", "flat style"] };

export function stylesOf(model) {
  return STYLES[model] ?? [];
}

/** The style that a prompt ends with, null without one. */
export function styleIn(prompt, styles) {
  const end = prompt.trimEnd().toLowerCase();
  return styles.find((style) => end === style || new RegExp(`[,\\s]${style}$`).test(end)) ?? null;
}

/** The prompt in another style; null takes its own away. */
export function inStyle(prompt, style, styles) {
  const own = styleIn(prompt, styles);
  const trimmed = prompt.trimEnd();
  const plain = own === null ? trimmed : trimmed.slice(0, -own.length).replace(/[,\s]+$/, "");
  if (style === null) return plain;
  return plain === "" ? style : `${plain}, ${style}`;
}
