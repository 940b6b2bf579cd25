// Small facts about numbers and lists of them.

/** A number as people read it: four digits, and powers of ten where there are many zeros. */
export function show(x, digits = 4) {
  if (x == null || Number.isNaN(x)) return "";
  if (x === 0 || !Number.isFinite(x)) return String(x);
  const size = Math.abs(x);
  return size >= 1e-3 && size < 1e5 ? String(Number(x.toPrecision(digits))) : Number(x.toPrecision(Math.min(digits, 3))).toExponential();
}

/** Index of the last of the sorted `xs` that is not above `x`; the first, if all are. */
export function indexAt(xs, x) {
  let low = 0;
  let high = xs.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (xs[middle] <= x) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Least and largest of the finite numbers in `values`. */
export function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const x of values) {
    if (Number.isFinite(x) && x < low) low = x;
    if (Number.isFinite(x) && x > high) high = x;
  }
  return [low, high];
}

export function median(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Whether a recorded value has named parts; a reference to an array is one value. */
export const hasParts = (value) =>
  value !== null && typeof value === "object" && !Array.isArray(value) && value.kind !== "array";

/** The shape of nested lists; of a reference to an array, what it says. */
export function shapeOf(value) {
  if (value?.kind === "array") return value.shape;
  const shape = [];
  for (let part = value; Array.isArray(part); part = part[0]) shape.push(part.length);
  return shape;
}

/** Round numbers from `low` to `high`, some six of them. */
export function ticks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((each) => each * power >= rough) ?? 10);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}
