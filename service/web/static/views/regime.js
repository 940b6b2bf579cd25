// Regime reports: is this network, on this data, in the kernel regime?
import { html, useState } from "../page/html.js";
import { Empty, Loading } from "../components/empty.js";
import { Problem } from "../components/problem.js";
import { Status } from "../components/status.js";
import { Cost, Programs, Share } from "./compose_aside.js";
import { SpecForm, Wrong, tidied, useSchemas, useSending, useSpec } from "./compose_form.js";
import { Before } from "./jobs_before.js";
import { useJob } from "./kernels_job.js";
import { Report } from "./regime_report.js";

const START = {
  model: {
    parameterization: { kind: "ntk" },
    layers: [{ kind: "dense", width: 64, b_std: 0.5 }, { kind: "erf" }, { kind: "dense", width: 1 }],
  },
  data: {
    x: [[-1], [-0.5], [0], [0.5], [1]],
    y: [[-0.5], [-0.9], [0.1], [0.9], [0.5]],
    x_test: [[-0.75], [0.25], [0.75]],
    y_test: [[-0.8], [0.5], [0.8]],
  },
  training: { kind: "gradient_descent", learning_rate: 0.3, steps: 3000 },
  widths: [16, 256],
};

const SECTIONS = [
  { title: "Network", names: ["model"] },
  { title: "Data", names: ["data"], says: "With test targets, test errors are compared, too." },
  { title: "Training", names: ["training"] },
  { title: "How far to look", names: ["widths", "seeds", "tolerance", "advise"],
    says: "Several seeds show what is chance; several widths show where it leads." },
];

export function View({ id, query }) {
  const [error, fail] = useState(null);
  const schemas = useSchemas(fail);
  if (id) return html`<${Job} id=${id} />`;
  if (error) return html`<${Problem} error=${error} />`;
  if (!schemas) return html`<${Loading} what="Loading" />`;
  if (!schemas.RegimeSpec) return html`<${Empty} title="No regime reports here">This service does not make them.<//>`;
  return html`<${Asked} schemas=${schemas} query=${query} />`;
}

function Asked({ schemas, query }) {
  const edited = useSpec({ view: "regime", name: "RegimeSpec", query, start: START, schemas });
  const { spec } = edited;
  const { errors, live, send, isSending, failed } = useSending(edited);
  const body = tidied(spec, "RegimeSpec", schemas);
  const begin = async () => {
    const started = await send("/regime", body);
    if (started) location.hash = `#/regime/${started.id}`;
  };
  return html`
    <div class="intro">
      <h1>Is it in the kernel regime?</h1>
      <p class="lead">A network is trained from several starts. If its kernel hardly changes on the way, and a
        linear model trained beside it stays close, then kernel theory describes it; otherwise it learns features.</p>
    </div>
    <div class="compose">
      <${SpecForm} schemas=${schemas} name="RegimeSpec" spec=${spec} errors=${errors} change=${edited.change} sections=${SECTIONS} />
      <aside class="beside" aria-label="What it costs, and how to start it">
        <div class="card">
          <p class="actions">
            <button class="button primary" disabled=${isSending} onClick=${begin}>${isSending ? "Starting…" : "Start the report"}</button>
            <${Share} view="regime" spec=${body} />
          </p>
          <${Wrong} errors=${errors} />
          ${failed && html`<${Problem} error=${failed} />`}
          <${Cost} path="/regime/estimate" title="Estimate" spec=${body} isSettled=${edited.settled === spec} onFound=${live} />
        </div>
        <${Programs} path="/regime" spec=${body} />
        <${Before} name="regime" title="Reports" badge=${(job) => ({ ...job, outcome: job.result?.verdict })} />
      </aside>
    </div>`;
}

function Job({ id }) {
  const { job, state, error, keep } = useJob(`/regime/${id}`);
  if (error) return html`<${Problem} error=${error} />`;
  if (!job) return html`<${Loading} what="Loading the report" />`;
  return html`
    <div class="intro"><p><a href="#/regime">Regime reports</a></p></div>
    ${state === "lost" && html`<p class="banner" role="status">The connection is lost. It is taken up again by itself.</p>`}
    ${!job.result && html`<h1>Training networks for the report</h1>`}
    <${Status} job=${job} onChange=${keep} onGone=${() => { location.hash = "#/regime"; }} />
    ${job.result && html`<${Report} report=${job.result} id=${id} />`}`;
}
