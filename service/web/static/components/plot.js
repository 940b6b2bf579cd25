// From what a chart is to what uPlot takes.
import uPlot from "../vendor/uplot.js";
import { lineColor, style } from "../page/files.js";
import { extent, show } from "../page/numbers.js";

const positive = (x) => (x > 0 ? x : null); // a logarithmic axis has no place for others

/** The lines over one common axis; where that is logarithmic, from its first positive number. */
export function aligned(series, x, y) {
  const lines = series.map(({ x: xs, y: ys }) => {
    const from = x.log ? xs.findIndex((each) => each > 0) : 0;
    const kept = from > 0 ? [xs.slice(from), ys.slice(from)] : from < 0 ? [[], []] : [xs, ys];
    return [kept[0], y.log ? kept[1].map(positive) : kept[1]];
  });
  const [first, ...rest] = lines;
  if (!first) return [[]];
  const together = rest.every(([xs]) => xs === first[0] || same(xs, first[0]));
  return together ? [first[0], ...lines.map(([, ys]) => ys)] : uPlot.join(lines);
}

const same = (a, b) => a.length === b.length && a.every((each, i) => each === b[i]);

/** Powers of ten, some seven of them. */
export function decades(_plot, _axis, low, high) {
  const [from, to] = [Math.ceil(Math.log10(low)), Math.floor(Math.log10(high))];
  const every = Math.max(1, Math.ceil((to - from) / 6));
  return Array.from({ length: Math.floor((to - from) / every) + 1 }, (_, i) => 10 ** (from + i * every));
}

function axis({ label, log }, size) {
  return {
    label, size, ...(log && { splits: decades, filter: (_plot, splits) => splits }), stroke: style("--quiet"), labelSize: 20, labelGap: 0, font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
    grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line"), width: 1, size: 4 },
    values: (_plot, splits) => splits.map((each) => (each == null ? "" : show(each, 6))),
  };
}

function scale({ log, range }) {
  const linear = (_plot, low, high) => uPlot.rangeNum(low ?? 0, high ?? 1, 0.08, true);
  const powers = (_plot, low, high) => wide(low ?? 0.1, high ?? 1);
  return { time: false, distr: log ? 3 : 1, range: range ?? (log ? powers : linear) };
}

/** A little more than from `low` to `high` on a logarithmic axis, and a decade at least, for a label. */
function wide(low, high) {
  if (Math.floor(Math.log10(high)) >= Math.ceil(Math.log10(low)) + 1) return [low / 1.3, high * 1.3];
  return [10 ** Math.floor(Math.log10(low)), 10 ** Math.ceil(Math.log10(high * 1.0001))];
}

/** Times take the whole width. */
const tight = (_plot, low, high) => (low == null ? [0.1, 1] : low === high ? [low / 2, low * 2 + 1] : [low, high]);

export function line({ label, dash, color, width, points, faint }, index) {
  const full = color ? style(color) : lineColor(index);
  const stroke = faint ? `color-mix(in srgb, ${full} 45%, transparent)` : full;
  const common = { label, stroke, dash: dash && [6, 4], spanGaps: true };
  return points
    ? { ...common, paths: () => null, points: { show: true, size: 9, fill: stroke } }
    : { ...common, width: width ?? (dash ? 1.25 : 2), points: { show: alone, size: 5, fill: stroke } };
}

/** A line of one point is shown as a point. */
const alone = (plot) => plot.data[0].length < 2;

const band = ({ upper, lower }, series) => ({
  series: [upper + 1, lower + 1],
  fill: `color-mix(in srgb, ${line(series[upper], upper).stroke} 22%, transparent)`,
});

/** Options of uPlot. `hooks` are its hooks; `sync` names charts whose cursors move together. */
export function options({ x, y, series, bands = [], sync, hooks }, width, height) {
  return {
    width, height, hooks, legend: { show: false },
    bands: bands.map((each) => band(each, series)),
    cursor: { drag: { x: true, y: false }, focus: { prox: 24 }, ...(sync && { sync: { key: sync } }) },
    focus: { alpha: series.length > 1 && series.length < 40 ? 0.35 : 1 },
    scales: { x: scale({ ...x, range: tight }), y: scale(y) },
    axes: [axis(x, 30), axis(y, 58)],
    series: [{ label: x.label }, ...series.map(line)],
  };
}

/** What a screen reader says of a chart. */
export function said({ title, x, y, series }) {
  const [low, high] = extent(series.flatMap((each) => each.y));
  const lines = series.length === 1 ? "one line" : `${series.length} lines`;
  return `${title}: ${lines} of ${y.label} over ${x.label}, from ${show(low)} to ${show(high)}`;
}
