// Regime reports: is this network, on this data, in the kernel regime?
import { html } from "../page/html.js";
import { Loading } from "../components/empty.js";
import { Problem } from "../components/problem.js";
import { Status } from "../components/status.js";
import { SpecForm } from "./compose_form.js";
import { Asked, Before, useJob } from "./jobs.js";
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
  if (id) return html`<${Job} id=${id} />`;
  const before = html`<${Before} name="regime" title="Reports" badge=${(job) => ({ ...job, outcome: job.result?.verdict })} />`;
  return html`
    <${Asked} view="regime" name="RegimeSpec" none="No regime reports here" query=${query} start=${START}
      fields=${(form) => html`<${SpecForm} ...${form} sections=${SECTIONS} />`} button="Start the report" before=${before}>
      <h1>Is it in the kernel regime?</h1>
      <p class="lead">A network is trained from several starts. If its kernel hardly changes on the way, and a
        linear model trained beside it stays close, then kernel theory describes it; otherwise it learns features.</p>
    <//>`;
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
