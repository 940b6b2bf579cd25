// What runs have in common and in what they differ; nothing here knows of a page.

/** Leaves of JSON by their paths: `model.layers.0.width` -> 100. Lists of numbers are leaves. */
export function leaves(value, path = "") {
  const isNumbers = Array.isArray(value) && !value.some((item) => item !== null && typeof item === "object" && !Array.isArray(item));
  if (value === null || typeof value !== "object" || isNumbers) return [[path, value]];
  return Object.entries(value).flatMap(([key, part]) => leaves(part, path ? `${path}.${key}` : key));
}

/** Paths at which specs differ: `[{path, values}]`, one value a spec. */
export function differences(specs) {
  const flat = specs.map((spec) => new Map(leaves(spec)));
  const paths = [...new Set(flat.flatMap((leavesOf) => [...leavesOf.keys()]))];
  return paths
    .map((path) => ({ path, values: flat.map((leavesOf) => leavesOf.get(path)) }))
    .filter(({ values }) => new Set(values.map((value) => JSON.stringify(value))).size > 1);
}

const isShort = (value) => value !== undefined && JSON.stringify(value).length <= 24;

/** A name for each spec: what is its own, in a few words. */
export function names(specs, differing) {
  const told = differing.filter(({ path, values }) => !path.startsWith("record") && values.some(isShort)).slice(0, 3);
  return specs.map((_, i) => told.filter(({ values }) => isShort(values[i]) && values[i] !== null)
    .map(({ path, values }) => `${word(path)} ${values[i]}`).join(", "));
}

const word = (path) => path.split(".").at(-1).replaceAll("_", " ");

/** A path in words: "width of layer 1", "learning rate of training". */
export function inWords(path) {
  const [, layer] = path.match(/layers\.(\d+)/) ?? [];
  return layer === undefined ? word(path) : `${word(path)} of layer ${Number(layer) + 1}`;
}

/**
 * Quantities of a run that are numbers: `{name: {step, time, members}}`; `members` has a list over time for
 * each network. Parts of a quantity are named `whole, part`.
 */
export function quantities(series) {
  return Object.fromEntries(Object.entries(series).flatMap(([name, { step, time, value }]) => parts(name, value)
    .map(([label, values]) => [label, { step, time, members: membersOf(values) }])
    .filter(([, { members }]) => members)));
}

const parts = (name, value) => (Array.isArray(value)
  ? [[name, value]] : Object.entries(value).flatMap(([part, inner]) => parts(`${name}, ${part}`, inner)));

const isNumber = (value) => typeof value === "number" || value === null;

function membersOf(values) {
  if (values.every(isNumber)) return [values];
  if (!values.every((row) => Array.isArray(row) && row.every(isNumber))) return null;
  return values[0].map((_, member) => values.map((row) => row[member]));
}

/** Last values of a quantity over runs that have the same x: `[{x, values}]` by x. */
export function grouped(xs, runs) {
  const groups = new Map();
  runs.forEach((quantity, i) => {
    if (!quantity || typeof xs[i] !== "number") return;
    const last = quantity.members.map((values) => values.at(-1)).filter((value) => value !== null);
    groups.set(xs[i], [...(groups.get(xs[i]) ?? []), ...last]);
  });
  return [...groups].map(([x, values]) => ({ x, values })).sort((one, other) => one.x - other.x);
}
