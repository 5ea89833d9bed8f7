// Where two pictures differ, as the server's sheet shows it: black, red, yellow, white, times a power of two.

// black where nothing differs; lighter is always more, also without colours
const HEAT = [
  [0, [0, 0, 0]],
  [64, [110, 10, 60]],
  [128, [215, 60, 25]],
  [192, [250, 165, 30]],
  [255, [255, 250, 210]],
];

/** The map of two pictures' difference, as `{ image, factor }`; both are ImageData of one size. */
export function differenceOf(a, b) {
  const levels = new Uint8Array(a.width * a.height);
  let largest = 0;
  for (let pixel = 0; pixel < levels.length; pixel++) {
    const at = 4 * pixel;
    for (let channel = at; channel < at + 3; channel++) {
      levels[pixel] = Math.max(levels[pixel], Math.abs(a.data[channel] - b.data[channel]));
    }
    largest = Math.max(largest, levels[pixel]);
  }
  // the largest that keeps every difference apart from the others
  const factor = largest === 0 ? 1 : 2 ** Math.floor(Math.log2(255 / largest));
  const image = new ImageData(a.width, a.height);
  const colours = Array.from({ length: 256 }, (_, level) => [...colourOf(level), 255]);
  levels.forEach((level, pixel) => image.data.set(colours[level * factor], 4 * pixel));
  return { image, factor };
}

function colourOf(level) {
  const after = HEAT.findIndex(([at]) => at >= level);
  if (after === 0) return HEAT[0][1];
  const [[from, before], [to, next]] = [HEAT[after - 1], HEAT[after]];
  const share = (level - from) / (to - from);
  return before.map((channel, index) => Math.round(channel + share * (next[index] - channel)));
}
