// Sizes to choose among: a bundle's own, others of about as many pixels, and larger ones.

const RATIOS = [
  ["Landscape", 3 / 2],
  ["Wide", 16 / 9],
  ["Portrait", 2 / 3],
  ["Tall", 9 / 16],
];

export function sidesOf(size) {
  return size.split("x").map(Number);
}

/** Pairs of a label and `WIDTHxHEIGHT`, each of which the limits allow. */
export function sizesFor(own, limits) {
  const [width, height] = sidesOf(own);
  const found = [["Square", own]];
  if (width !== height) found[0][0] = "The model's own";
  for (const [label, ratio] of RATIOS) found.push([label, proportioned(width * height, ratio, limits)]);
  for (const times of [1.5, 2]) {
    found.push(["Larger", rounded(width * times, height * times, limits)]);
  }
  const sizes = new Map();
  for (const [label, size] of found) {
    if (allowed(size, limits) && ![...sizes.values()].includes(size)) sizes.set(`${label} ${size.replace("x", " × ")}`, size);
  }
  return [...sizes];
}

function proportioned(area, ratio, limits) {
  return rounded(Math.sqrt(area * ratio), Math.sqrt(area / ratio), limits);
}

function rounded(width, height, { side_multiple: multiple, min_side: least }) {
  return [width, height].map((side) => Math.max(least, Math.round(side / multiple) * multiple)).join("x");
}

function allowed(size, limits) {
  const sides = sidesOf(size);
  return sides[0] * sides[1] <= limits.pixels && sides.every((side) => side >= limits.min_side);
}
