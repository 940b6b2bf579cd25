// The function before and after one more point, its motion beside the kernel's, and how much the point matters where.
import { html } from "../page/html.js";
import { show } from "../page/numbers.js";
import { Chart } from "../components/chart.js";

/** Numbers of rows that have one each, else null. */
const column = (rows) => (Array.isArray(rows) && rows.every((row) => Array.isArray(row) && row.length === 1) ? rows.flat() : null);

/** Where the function is watched, if that is on a line. */
export const lineOf = ({ points, data, x_new: added }) => (column(data?.x) && column(added) && column(points));

export function Moved({ answer, spec, place }) {
  const line = lineOf(spec);
  const at = line ?? answer.weight.map((_, i) => i);
  const order = at.map((_, i) => i).sort((i, j) => at[i] - at[j]);
  const x = order.map((i) => at[i]);
  const first = (rows) => order.map((i) => rows[i][0]);
  const axis = { label: line ? "x" : "number of the point" };
  const outputs = answer.before[0].length > 1 ? " Of several outputs the first." : "";
  const foretold = answer.before.map((row, i) => row.map((value, a) => value + answer.predicted[i][a]));
  return html`
    <h2 class="unseen">How it moves</h2>
    <section class="charts influence" aria-label="How it moves" aria-live="polite">
      <${Chart} title="The function" x=${axis} y=${{ label: "f(x)" }} height=${280} onSelect=${line ? place : null}
        note=${`${line ? "Click to put the new point elsewhere." : "Over the points where it is watched."}${outputs}`}
        series=${[
          { label: "before", x, y: first(answer.before), color: "--s8" },
          { label: "after", x, y: first(answer.after), color: "--s1" },
          { label: "after, by the kernel", x, y: first(foretold), color: "--s2", dash: true },
          ...line ? known(spec) : [],
        ]} />
      <${Chart} title="How it moved" x=${axis} y=${{ label: "f after − f before" }} height=${280}
        note=${`The kernel is off by ${show(100 * answer.relative_error, 2)} % of the motion.`}
        series=${[
          { label: "the network", x, y: first(answer.moved), color: "--s1" },
          { label: "by the kernel", x, y: first(answer.predicted), color: "--s2", dash: true },
        ]} />
      <${Chart} title="Weight of the new point" x=${axis} y=${{ label: "Θ(x, new)" }} height=${280}
        note="The kernel between x and the new point: how much it matters there."
        series=${[{ label: "Θ(x, new)", x, y: order.map((i) => answer.weight[i]), color: "--s3" }]} />
    </section>`;
}

/** The points that are trained on, where the targets are single numbers, too. */
function known({ data, x_new: added, y_new: target }) {
  const [x, y, at, to] = [data.x, data.y, added, target].map(column);
  if (!y || !to) return [];
  return [
    { label: "training points", x, y, color: "--text", points: true },
    { label: "new point", x: at, y: to, color: "--danger", points: true },
  ];
}
