// A request as text that runs: a curl command, a Python program.

const WIDTH = 88; // what fits is written on one line

const JSON_WORDS = { null: "null", true: "true", false: "false" };
const PYTHON_WORDS = { null: "None", true: "True", false: "False" };

/** A value over as few lines as are readable, each at most `WIDTH` wide. */
export function written(value, words = JSON_WORDS, indent = "", room = WIDTH) {
  const line = inline(value, words);
  if (line.length + indent.length <= room || !isContainer(value)) return line;
  const deeper = `${indent}  `;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const items = Array.isArray(value)
    ? value.map((item) => written(item, words, deeper, room))
    : entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${written(item, words, deeper, room)}`);
  const rows = isOfNumbers(value) ? wrapped(items, room - deeper.length) : items;
  return `${open}\n${rows.map((row) => deeper + row).join(",\n")}\n${indent}${close}`;
}

const isContainer = (value) => value !== null && typeof value === "object";
const isOfNumbers = (value) => Array.isArray(value)
  && value.every((item) => !isContainer(item) || (Array.isArray(item) && !item.some(isContainer)));
const entries = (value) => Object.entries(value).filter(([, item]) => item !== undefined);

function inline(value, words) {
  if (Array.isArray(value)) return `[${value.map((item) => inline(item, words)).join(", ")}]`;
  if (isContainer(value)) {
    return `{${entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${inline(item, words)}`).join(", ")}}`;
  }
  const text = JSON.stringify(value);
  return words[text] ?? text;
}

/** Short items, several to a line. */
function wrapped(items, room) {
  const rows = [[]];
  let used = 0;
  for (const item of items) {
    if (used + item.length + 2 > room && rows.at(-1).length) {
      rows.push([]);
      used = 0;
    }
    rows.at(-1).push(item);
    used += item.length + 2;
  }
  return rows.map((row) => row.join(", "));
}

/** Text as one word of a POSIX shell. */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The curl command that posts a spec. */
export function curl(origin, path, spec) {
  return `curl ${origin}${path} -H 'Content-Type: application/json' -d ${quoted(written(spec))}`;
}

const OPENING = (origin, spec) => `from service.client import Client

spec = ${written(spec, PYTHON_WORDS)}

with Client(${JSON.stringify(origin)}) as client:
`;

// What a program does with the spec, by the address that takes it.
const CALLS = {
  "/runs": `    run = client.run(spec)
    for event in run.events():
        if event.kind == "point":
            print(event.members)
`,
  "/kernel": `    print(client.kernel(**spec))
`,
  "/regime": `    report = client.regime(spec)
    report.wait()
    print(report.view()["result"]["verdict"])
`,
  "/sweeps": `    sweep = client.sweep(spec)
    sweep.wait()
    print(sweep.export("csv").decode())
`,
  "/influence": `    found = client.influence(spec)
    print(found.moved, found.predicted, found.relative_error)
`,
};

/** A Python program that posts a spec by the service's client. */
export const python = (origin, path, spec) => OPENING(origin, spec) + CALLS[path];

// The same work in the program itself.
const ENGINE = {
  "/runs": ["ntkengine.dynamics import RunSpec, train", `for segment in train(from_jsonable(RunSpec, spec)):
    for point in segment.points:
        print(point.time, point.values)
`],
  "/kernel": ["ntkengine.kernels import KernelSpec, compute_kernel", `print(compute_kernel(from_jsonable(KernelSpec, spec)))
`],
  "/regime": ["ntkengine.regime import RegimeSpec, regime_report", `for step in regime_report(from_jsonable(RegimeSpec, spec)):
    print(f"{step.progress:.0%}")
print(step.report["verdict"])
`],
  "/sweeps": ["ntkengine.sweeps import SweepSpec, sweep", `for step in sweep(from_jsonable(SweepSpec, spec)):
    print(f"{step.progress:.0%}", step.row)
print(step.result["exponents"])
`],
  "/influence": ["ntkengine.influence import InfluenceSpec, influence", `found = influence(from_jsonable(InfluenceSpec, spec))
print(found.moved, found.predicted, found.relative_error)
`],
};

/** A Python program that does the same without a service. */
export function engine(path, spec) {
  const [names, call] = ENGINE[path];
  return `from ${names}
from ntkengine.spec import from_jsonable

spec = ${written(spec, PYTHON_WORDS)}

${call}`;
}
