// The measures of a sweep against one of its axes, a line for each combination of the others, with fitted powers.
import { html, useState } from "../page/html.js";
import { Chart } from "../components/chart.js";
import { MEASURES, named, said } from "./sweeps_table.js";

const SHOWN = ["kernel_change", "weight_change", "linearization_error", "loss", "loss_test"];
const COLORS = 7; // then they come again; the eighth is that of intervals

const isNumeric = ({ field, values }) => field !== "/seed" && values.length > 1
  && values.every((value) => typeof value === "number" && value > 0);

export function Charts({ table, combine }) {
  const axes = table.axes.map((axis, place) => ({ ...axis, place })).filter(isNumeric);
  const [chosen, choose] = useState(null);
  const axis = axes.find(({ field }) => field === chosen) ?? axes.find(({ field }) => field.endsWith("/width")) ?? axes[0];
  if (!axis || table.rows.length < 2) return null;
  const charts = SHOWN.map((name) => ({ name, groups: groupsOf(table, axis, combine, name) }))
    .filter(({ groups }) => groups.some(({ rows }) => rows.length > 1));
  return html`
    <section class="sweep-charts" aria-label="By an axis">
      <h2>At the end, against${" "}
        <label class="against"><span class="unseen">what</span>
          <select onChange=${(event) => choose(event.target.value)}>
            ${axes.map(({ field }) => html`<option value=${field} selected=${field === axis.field}>${named(field)}</option>`)}
          </select></label></h2>
      <div class="charts">
        ${charts.map(({ name, groups }) => html`
          <${Chart} key=${name} title=${MEASURES[name]} note=${groups.map(power).filter(Boolean).join(" ")} series=${groups.flatMap(lines)}
            x=${{ label: named(axis.field), log: true }} y=${{ label: name.replaceAll("_", " "), log: isPositive(groups) }} />`)}
      </div>
    </section>`;
}

/** The rows between which only this axis varies: `[{name, rows, fit}]`, each row `{x, of}`. */
function groupsOf({ axes, rows, exponents }, { field, place }, combine, name) {
  const isOther = (_, i) => combine === "grid" && i !== place;
  const others = axes.filter(isOther);
  const keyOf = (row) => JSON.stringify(row.values.filter(isOther));
  const known = rows.filter((row) => row[name]);
  const keys = [...new Set(known.map(keyOf))];
  return keys.map((key, index) => {
    const values = JSON.parse(key);
    const fit = exponents?.find((each) => each.of === name && each.field === field
      && others.every((other, i) => JSON.stringify(each.at[other.field]) === JSON.stringify(values[i])));
    return {
      fit, name: others.map((other, i) => `${named(other.field)} ${said(values[i])}`).join(", ") || "median",
      color: `--s${(index % COLORS) + 1}`, isAlone: keys.length === 1,
      rows: known.filter((row) => keyOf(row) === key).map((row) => ({ x: row.values[place], of: row[name] })).sort((a, b) => a.x - b.x),
    };
  });
}

const isPositive = (groups) => groups.every(({ rows }) => rows.every(({ of }) => of.median > 0));

function lines({ name, rows, fit, color, isAlone }) {
  const x = rows.map((row) => row.x);
  const ends = isAlone && rows.every(({ of }) => of.low !== null)
    ? [{ label: "interval", x, y: rows.map(({ of }) => of.low), color: "--s8", dash: true },
      { label: "", x, y: rows.map(({ of }) => of.high), color: "--s8", dash: true }] : [];
  const measured = { label: name, x, y: rows.map(({ of }) => of.median), points: true, color };
  return [measured, ...ends, ...(fit ? [fitted(rows, fit, color)] : [])];
}

/** The line of a power through the values that it was fitted to. */
function fitted(rows, { slope, values }, color) {
  const used = rows.filter(({ x }) => values.includes(x));
  const height = used.reduce((sum, { x, of }) => sum + Math.log(of.median) - slope * Math.log(x), 0) / used.length;
  const x = used.map((row) => row.x);
  return { label: "", x, y: x.map((each) => Math.exp(height) * each ** slope), color };
}

function power({ name, fit, isAlone }) {
  if (!fit) return null;
  const interval = fit.low === null ? "" : ` (${fit.low.toFixed(2)} to ${fit.high.toFixed(2)})`;
  return `Power ${fit.slope.toFixed(2)}${interval}${isAlone ? "" : `: ${name}`}.`;
}
