// Which charts a run has: one for each quantity that it recorded.
import { median, shapeOf } from "../page/numbers.js";

const MOST_LINES = 8;
const MOST_MEMBERS_DRAWN = 40;

const on = (points, suffix) => [
  { title: `${points} outputs`, y: "f(x)", parts: [
    { name: `outputs${suffix}`, label: "f" },
    { name: `linearized/outputs${suffix}`, label: "linearized", dash: true }],
    dashed: "Solid: the network. Dashed: its linearization at the start.", of: suffix || "_train" },
  { title: `${points} slopes`, y: "df/dt", parts: [
    { name: `slopes${suffix}/measured`, label: "df/dt" },
    { name: `slopes${suffix}/predicted`, label: "predicted", dash: true }],
    dashed: "Solid: measured. Dashed: what the kernel at that moment predicts.", of: suffix || "_train" },
];

/** In the order in which they are shown; `parts` are the series that share a chart. */
const CHARTS = [
  { title: "Loss", y: "loss", log: true, parts: [
    { name: "loss", label: "training" }, { name: "loss_test", label: "test" },
    { name: "linearized/loss", label: "linearized network", dash: true }] },
  ...on("Training", ""),
  ...on("Test", "_test"),
  { title: "Errors", y: "f(x) − y", parts: [{ name: "errors", label: "error" }], of: "_train" },
  { title: "Kernel entries", y: "Θ(x, x′)", parts: [{ name: "kernel", label: "Θ" }], pairs: true },
  { title: "Kernel change", y: "|Θₜ − Θ₀| / |Θ₀|", parts: [{ name: "kernel_distance", label: "relative change" }],
    note: "Near 0: lazy training. Of order 1: features are learned." },
  { title: "Kernel velocity", y: "velocity", parts: [{ name: "kernel_velocity", label: "velocity" }] },
  { title: "Alignment", y: "alignment", parts: [
    { name: "alignment", label: "with the targets" }, { name: "cka", label: "with the kernel at the start (CKA)" }] },
  { title: "Spectrum", y: "eigenvalue", log: true, parts: [{ name: "spectrum/eigenvalues", label: "λ" }] },
  { title: "Effective rank", y: "rank", parts: [{ name: "spectrum/effective_rank", label: "effective rank" }] },
  { title: "Condition number", y: "λ₁ / λₘ", log: true,
    parts: [{ name: "spectrum/condition_number", label: "condition number" }] },
  { title: "Linearization error", y: "relative distance", parts: [
    { name: "linearized/distance", label: "weights, over distance travelled" },
    { name: "linearized/relative_error", label: "outputs, over change" }] },
  { title: "Displacement of the weights", y: "|θₜ − θ₀| / |θ₀|", parts: [
    { name: "displacement", label: "displacement" }] },
  { title: "Sharpness", y: "largest eigenvalue of the Hessian", parts: [{ name: "sharpness", label: "sharpness" }] },
];
const NAMED = new Set(CHARTS.flatMap(({ parts }) => parts.map(({ name }) => name)));

/** The charts of a run: {title, note, y, series}; `x` is its axis of time. */
export function chartsOf(all, run) {
  const known = withDistance(all);
  const context = { members: membersOf(run.spec), inputs: inputsOf(run.spec) };
  return [...CHARTS, ...others(known)]
    .map((chart) => ({
      title: chart.title, note: known.has(chart.parts[1]?.name) && chart.dashed ? chart.dashed : chart.note, y: { label: chart.y, log: chart.log },
      series: chart.parts.flatMap((part, at) => lines(known.get(part.name), part, at, chart, context)),
    }))
    .filter(({ series }) => series.length);
}

/** How many members train together, or null where values have no axis of members. */
export const membersOf = ({ seeds, weights }) => seeds?.length ?? (Array.isArray(weights) ? weights.length : null);

function inputsOf({ data }) {
  const line = (x) => (Array.isArray(x) && x.every((row) => row.length === 1) ? x.map(([each]) => each) : null);
  return { _train: line(data.x), _test: line(data.x_test) };
}

/** Series without a chart of their own get one each, those with the same first name together. */
function others(all) {
  const groups = new Map();
  for (const name of all.keys()) {
    if (NAMED.has(name) || name.includes("weights/")) continue;
    const [group, ...rest] = name.split("/");
    const words = group.replaceAll("_", " ");
    const title = group === "path" ? `${words}: ${rest.join(" ")}` : words;
    const y = rest.at(-1)?.includes(".") ? words : rest.at(-1) ?? words;
    const chart = groups.get(title) ?? { title: title[0].toUpperCase() + title.slice(1), y, parts: [] };
    chart.parts.push({ name, label: rest.at(-1) ?? words });
    groups.set(title, chart);
  }
  return [...groups.values()];
}

/** The kernel's relative change, computed here where it was not recorded and the kernels are at hand. */
function withDistance(all) {
  const kernel = all.get("kernel");
  if (all.has("kernel_distance") || !kernel?.value.length || shapeOf(kernel.value[0]).length !== 2) return all;
  if (kernel.value[0].kind) return all;
  const start = kernel.value[0].flat();
  const size = Math.hypot(...start) || 1;
  const value = kernel.value.map((each) => Math.hypot(...each.flat().map((entry, i) => entry - start[i])) / size);
  return new Map(all).set("kernel_distance", { ...kernel, value });
}

function lines(series, part, at, chart, { members, inputs }) {
  if (!series?.value.length || series.value[0]?.kind === "array") return [];
  const shape = shapeOf(series.value[0]).slice(members === null ? 0 : 1);
  const entries = chosen(shape, chart.pairs);
  const many = entries.length > 1;
  const line = (value, more) => ({ x: series.time, y: value, dash: part.dash, unlisted: part.dash && many, ...more });
  return entries.flatMap((index, place) => {
    const color = part.dash ? "--text" : `--s${((many ? place : at) % 8) + 1}`;
    const label = labelled(part, index, shape, inputs[chart.of] ?? (chart.pairs && inputs._train), chart.pairs);
    if (members === null) return [line(column(series.value, index), { label, color })];
    const each = Array.from({ length: members }, (_, member) => column(series.value, [member, ...index]));
    const middle = line(series.time.map((_, i) => median(each.map((y) => y[i]))), { label: `${label}, median`, color });
    const thin = each.slice(0, entries.length > 3 ? 0 : MOST_MEMBERS_DRAWN);
    const own = thin.map((y, member) =>
      line(y, { label: `${label}, member ${member}`, unlisted: true, color, width: 0.75, faint: true }));
    return [...own, middle];
  });
}

/** At most so many entries of an array, evenly spread; of a symmetric matrix, those on and above its diagonal. */
function chosen(shape, pairs) {
  const all = indices(shape).filter(([i, j]) => !pairs || shape[0] !== shape[1] || i <= j);
  let every = Math.ceil(all.length / MOST_LINES);
  while (!pairs && shape.length > 1 && common(every, shape.at(-1)) > 1) every++; // of all columns, not of the first alone
  return all.filter((_, at) => at % every === 0);
}

const common = (a, b) => (b ? common(b, a % b) : a);

const indices = (shape) => shape.reduce(
  (before, size) => before.flatMap((index) => Array.from({ length: size }, (_, i) => [...index, i])), [[]]);

const column = (values, index) => values.map((value) => index.reduce((part, i) => part?.[i], value));

/** What a line stands for: by inputs where they are numbers, else by their places. */
function labelled({ label }, index, shape, inputs, pairs) {
  if (!index.length) return label;
  const hasOutputs = shape.length === 2 && !pairs;
  const points = hasOutputs ? index.slice(0, 1) : index;
  const names = inputs ? points.map((i) => inputs[i] ?? i) : points.map((i) => (hasOutputs ? `point ${i}` : i));
  return `${label}(${names.join(", ")})${hasOutputs && shape[1] > 1 ? `, output ${index[1]}` : ""}`;
}
