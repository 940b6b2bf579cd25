// Last values against what the runs differ in, with the fitted power and its interval.
import { html, useMemo, useState } from "../page/html.js";
import { grouped, inWords } from "../page/comparison.js";
import { exponent, median } from "../page/exponent.js";
import { Chart } from "../components/chart.js";

const isNumeric = ({ values }) => values.every((value) => typeof value === "number" && value > 0);
const isOfSeeds = ({ path }) => /seed/.test(path);
const isWidth = ({ path }) => path.endsWith(".width");

export function Sweeps({ differing, known, numbers }) {
  const axes = useMemo(() => differing.filter((each) => isNumeric(each) && !isOfSeeds(each))
    .sort((one, other) => isWidth(other) - isWidth(one)), [differing]);
  const [chosen, choose] = useState(null);
  const isKnown = numbers.filter((each) => Object.keys(each).length).length > 1;
  const axis = axes.find(({ path }) => path === chosen) ?? axes[0];
  if (!axis || !isKnown) return null;
  return html`
    <section class="sweeps" aria-label="By what they differ in">
      <h2>At the end, against${" "}
        <label class="against"><span class="unseen">what</span>
          <select onChange=${(event) => choose(event.target.value)}>
            ${axes.map(({ path }) => html`<option value=${path} selected=${path === axis.path}>${inWords(path)}</option>`)}
          </select></label></h2>
      <div class="charts">
        ${known.map((name) => html`<${Sweep} key=${name} name=${name} axis=${axis} numbers=${numbers} />`)}
      </div>
    </section>`;
}

function Sweep({ name, axis, numbers }) {
  const groups = useMemo(() => grouped(axis.values, numbers.map((each) => each[name])), [axis, numbers]);
  const fit = useMemo(() => exponent(groups), [groups]);
  const isPositive = groups.every(({ values }) => values.every((value) => value > 0));
  if (groups.length < 2) return null;
  const x = groups.map((group) => group.x);
  const series = [
    ...members(groups, x),
    { label: "median", x, y: groups.map((group) => median(group.values)), points: true, color: "--s1" },
    ...(fit ? [{ label: "fitted power", x, y: x.map((each) => Math.exp(fit.intercept) * each ** fit.slope), color: "--s2" }] : []),
  ];
  const title = `${name[0].toUpperCase()}${name.slice(1).replaceAll("_", " ")} at the end`;
  return html`
    <${Chart} title=${title} note=${said(fit)} series=${series}
      x=${{ label: inWords(axis.path), log: true }} y=${{ label: name.split(", ").at(-1).replaceAll("_", " "), log: isPositive }} />`;
}

/** Each network as a faint point, where there are several. */
function members(groups, x) {
  const most = Math.max(...groups.map(({ values }) => values.length));
  return Array.from({ length: most > 1 ? most : 0 }, (_, j) => ({
    label: j === 0 ? "each network" : "", x, y: groups.map(({ values }) => values[j] ?? null),
    points: true, faint: true, color: "--s8",
  }));
}

function said(fit) {
  if (!fit) return "No power can be fitted: a value is not positive.";
  const power = `Power ${fit.slope.toFixed(2)}`;
  if (fit.low === null) return `${power}; an interval needs several seeds.`;
  return `${power}, between ${fit.low.toFixed(2)} and ${fit.high.toFixed(2)} (99 %, over seeds).`;
}
