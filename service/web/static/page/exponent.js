// Exponents in the width: slopes on log-log axes, with bootstrap intervals over seeds.

const RESAMPLES = 1999;
const LEVEL = 0.99;

/** Median of numbers. */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Slope and intercept of the least-squares line of log y over log x. */
export function line(xs, ys) {
  const logs = [xs.map(Math.log), ys.map(Math.log)];
  const [mx, my] = logs.map((values) => values.reduce((sum, value) => sum + value, 0) / values.length);
  let [above, under] = [0, 0];
  logs[0].forEach((x, i) => {
    above += (x - mx) * (logs[1][i] - my);
    under += (x - mx) ** 2;
  });
  const slope = above / under;
  return { slope, intercept: my - slope * mx };
}

/**
 * The exponent p of `value ~ x^p` over groups `[{x, values}]`, by least squares on the logarithms of their medians.
 *
 * As `ntkengine.analysis.fit_exponent`: where all groups have as many values, the same ones are drawn of each
 * group, since draws of weights are nested in the width. With one value a group there is no interval: `low`
 * and `high` are null. Null where there are fewer than two x, or a value is not positive.
 */
export function exponent(groups, seed = 1) {
  const xs = groups.map((group) => group.x);
  const isPositive = groups.every((group) => group.values.length && group.values.every((value) => value > 0));
  if (new Set(xs).size < 2 || !isPositive) return null;
  const fit = line(xs, groups.map((group) => median(group.values)));
  if (groups.some((group) => group.values.length < 2)) return { ...fit, low: null, high: null };
  const slopes = resampled(groups, xs, generator(seed));
  const tail = (1 - LEVEL) / 2;
  return { ...fit, low: quantile(slopes, tail), high: quantile(slopes, 1 - tail) };
}

function resampled(groups, xs, random) {
  const counts = groups.map((group) => group.values.length);
  const isPaired = counts.every((count) => count === counts[0]);
  const draw = (count) => Array.from({ length: count }, () => Math.floor(random() * count));
  const slopes = Array.from({ length: RESAMPLES }, () => {
    const shared = draw(counts[0]);
    const drawn = groups.map(({ values }) => (isPaired ? shared : draw(values.length)).map((i) => values[i]));
    return line(xs, drawn.map(median)).slope;
  });
  return slopes.sort((a, b) => a - b);
}

function quantile(sorted, share) {
  const place = share * (sorted.length - 1);
  const floor = Math.floor(place);
  const next = sorted[Math.min(floor + 1, sorted.length - 1)];
  return sorted[floor] + (place - floor) * (next - sorted[floor]);
}

/** Pseudo-random numbers in [0, 1), the same for the same seed (mulberry32): an interval must not flicker. */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
