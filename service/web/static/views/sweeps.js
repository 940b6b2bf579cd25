// Sweeps: a run at many values of its fields, as one table.
import { html, useEffect, useState } from "../page/html.js";
import { follow, get } from "../page/api.js";
import { fetched } from "../page/files.js";
import { Empty, Loading } from "../components/empty.js";
import { Problem } from "../components/problem.js";
import { Status } from "../components/status.js";
import { Cost, Programs, Share } from "./compose_aside.js";
import { SpecForm, Wrong, tidied, useSchemas, useSending, useSpec } from "./compose_form.js";
import { Before } from "./jobs_before.js";
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

export function View({ id, query }) {
  const [error, fail] = useState(null);
  const schemas = useSchemas(fail);
  if (id) return html`<${Job} id=${id} />`;
  if (error) return html`<${Problem} error=${error} />`;
  if (!schemas) return html`<${Loading} what="Loading" />`;
  if (!schemas.SweepSpec) return html`<${Empty} title="No sweeps here">This service does not make them.<//>`;
  return html`<${Asked} schemas=${schemas} query=${query} />`;
}

function Asked({ schemas, query }) {
  const edited = useSpec({ view: "sweeps", name: "SweepSpec", query, start: START, schemas });
  const { spec } = edited;
  const { errors, live, send, isSending, failed } = useSending(edited);
  const body = tidied(spec, "SweepSpec", schemas);
  const begin = async () => {
    const started = await send("/sweeps", body);
    if (started) location.hash = `#/sweeps/${started.id}`;
  };
  return html`
    <div class="intro">
      <h1>Compare many runs</h1>
      <p class="lead">A run is trained with every combination of some of its fields' values: widths, learning rates,
        parameterizations. Each is a row of one table.</p>
    </div>
    <div class="compose">
      <div class="sweep-spec">
        <${Axes} spec=${spec} errors=${errors} change=${edited.change} />
        <${SpecForm} schemas=${schemas} name="SweepSpec" spec=${spec} errors=${errors} change=${edited.change} sections=${SECTIONS} />
      </div>
      <aside class="beside" aria-label="What it costs, and how to start it">
        <div class="card">
          <p class="actions">
            <button class="button primary" disabled=${isSending} onClick=${begin}>${isSending ? "Starting…" : "Start the sweep"}</button>
            <${Share} view="sweeps" spec=${body} />
          </p>
          <${Wrong} errors=${errors} />
          ${failed && html`<${Problem} error=${failed} />`}
          <${Cost} path="/sweeps/estimate" title="Estimate" spec=${body} isSettled=${edited.settled === spec} onFound=${live} />
        </div>
        <${Programs} path="/sweeps" spec=${body} />
        <${Before} name="sweeps" title="Sweeps" />
      </aside>
    </div>`;
}

/** A sweep as it grows: `{job, state, error, keep}`. Rows come with the events, the rest with the job. */
function useSweep(path) {
  const [job, keep] = useState(null);
  const [state, tell] = useState("open");
  const [error, fail] = useState(null);
  useEffect(() => {
    const stop = new AbortController();
    const load = () => get(path, { signal: stop.signal }).then(keep);
    const take = (event) => keep((known) => (TAKE[event.kind] ?? ((same) => same))(known, event));
    load()
      .then(() => follow(`${path}/events`, { signal: stop.signal, onEvent: take, onState: tell }))
      .then(load)
      .catch((refused) => stop.signal.aborted || fail(refused));
    return () => stop.abort();
  }, [path]);
  return { job, state, error, keep };
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

function Job({ id }) {
  const { job, state, error, keep } = useSweep(`/sweeps/${id}`);
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
