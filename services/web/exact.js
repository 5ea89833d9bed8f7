// Seeds go to 2^63 - 1, beyond what JavaScript's numbers hold: they stay digits on the way in and out.

const DIGITS = new Set(["seed", "subseed"]);

/** A body's JSON, in which seeds are digits as they are. */
export function written(fields) {
  const members = Object.entries(fields).map(([name, value]) => {
    const exact = DIGITS.has(name) && /^[0-9]+$/.test(value);
    return `${JSON.stringify(name)}:${exact ? BigInt(value) : JSON.stringify(value)}`;
  });
  return `{${members.join(",")}}`;
}

/**
 * The digits of a field, null where JSON has none.
 *
 * Within a text JSON writes its quotation marks with a backslash before them, so that no text can look like the field.
 */
export function digitsOf(name, json) {
  return json.match(new RegExp(`"${name}":\\s*([0-9]+)`))?.[1] ?? null;
}
