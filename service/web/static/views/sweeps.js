// Sweeps: a run at many values of its fields, as one table.
import { html } from "../page/html.js";
import { fetched } from "../page/files.js";
import { Loading } from "../components/empty.js";
import { Problem } from "../components/problem.js";
import { Status } from "../components/status.js";
import { SpecForm } from "./compose_form.js";
import { Asked, Before, useJob } from "./jobs.js";
import { Axes } from "./sweeps_axes.js";
import { Charts } from "./sweeps_charts.js";
import { Table } from "./sweeps_table.js";

const START = {
  run: {
    model: {
      parameterization: { kind: "ntk" },
      layers: [{ kind: "dense", width: 64, b_std: 1 }, { kind: "quadratic" }, { kind: "dense", width: 1 }],
    },
    data: { x: [[1], [-1]], y: [[1], [1]], x_test: [[0.5]], y_test: [[1]] },
    training: { kind: "gradient_descent", learning_rate: 0.02, steps: 300, stop: { loss_below: 1e-6 } },
    seeds: [0, 1, 2, 3, 4],
  },
  axes: [
    { field: "/model/parameterization", values: [{ kind: "ntk" }, { kind: "mean_field", lr_scale: "width" }] },
    { field: "/model/layers/0/width", values: [32, 128, 512] },
  ],
};

const SECTIONS = [
  { title: "The run", names: ["run"], says: "Its seeds train together, and give every number an interval." },
];

const fields = (form) => html`
  <div class="sweep-spec">
    <${Axes} spec=${form.spec} errors=${form.errors} change=${form.change} />
    <${SpecForm} ...${form} sections=${SECTIONS} />
  </div>`;

export function View({ id, query }) {
  if (id) return html`<${Job} id=${id} />`;
  return html`
    <${Asked} view="sweeps" name="SweepSpec" none="No sweeps here" query=${query} start=${START} fields=${fields}
      button="Start the sweep" before=${html`<${Before} name="sweeps" title="Sweeps" />`}>
      <h1>Compare many runs</h1>
      <p class="lead">A run is trained with every combination of some of its fields' values: widths, learning rates,
        parameterizations. Each is a row of one table.</p>
    <//>`;
}

// What an event changes of a job; those from before it was loaded come again, and change nothing.
const TAKE = {
  started: (job) => (job.status === "queued" ? { ...job, status: "running", meaning: "" } : job),
  point: (job, { row }) => {
    const { rows } = job.result;
    return row.index === rows.length ? { ...job, result: { ...job.result, rows: [...rows, row] } } : job;
  },
  progress: (job, { fraction, counts, seconds_left: left }) => (fraction < job.progress.fraction ? job
    : { ...job, seconds_left: left, progress: { ...job.progress, fraction, ...counts } }),
};

const taken = (job, event) => (TAKE[event.kind] ?? ((same) => same))(job, event);

function Job({ id }) {
  const { job, state, error, keep } = useJob(`/sweeps/${id}`, taken);
  if (error) return html`<${Problem} error=${error} />`;
  if (!job) return html`<${Loading} what="Loading the sweep" />`;
  const { done, total } = job.progress.combinations;
  const changed = (next) => keep((known) => ({ ...known, ...next }));
  return html`
    <div class="intro">
      <p><a href="#/sweeps">Sweeps</a></p>
      <h1>A sweep of ${total} combinations</h1>
    </div>
    ${state === "lost" && html`<p class="banner" role="status">The connection is lost. It is taken up again by itself.</p>`}
    <${Status} job=${job} onChange=${changed} onGone=${() => { location.hash = "#/sweeps"; }}>
      ${["csv", "json"].map((form) => html`
        <a class="button" href=${`${job.links.export}?format=${form}`} download=${`sweep ${id}.${form}`}
          onClick=${fetched}>${form.toUpperCase()}</a>`)}
    <//>
    <${Charts} table=${job.result} combine=${job.combine} />
    <h2>The table${done < total && html` <span class="quiet">${done} of ${total}</span>`}</h2>
    <${Table} table=${job.result} />`;
}
