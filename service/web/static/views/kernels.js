// Kernels: small ones at once, large ones as jobs.
import { html, useEffect, useRef, useState } from "../page/html.js";
import { get } from "../page/api.js";
import { Empty, Loading } from "../components/empty.js";
import { Problem } from "../components/problem.js";
import { StatusBadge } from "../components/status.js";
import { Cost, Programs, Share } from "./compose_aside.js";
import { SpecForm, Wrong, tidied, useSchemas, useSending, useSpec } from "./compose_form.js";
import { KernelJob } from "./kernels_job.js";
import { Result } from "./kernels_result.js";

const START = {
  model: {
    parameterization: { kind: "ntk" },
    layers: [{ kind: "dense", W_std: 1.4, b_std: 0.1 }, { kind: "relu" }, { kind: "dense", width: 1 }],
  },
  x1: { kind: "dataset", name: "digits", limit: 40 },
  of: { kind: "infinite" },
};

const SECTIONS = [
  { title: "Which kernel", names: ["of", "dtype"],
    says: "Of the infinitely wide network, of one finite network, or the mean over many." },
  { title: "Inputs", names: ["x1", "x2"] },
  { title: "Network", names: ["model"], says: "Widths of hidden layers may be left out at infinite width." },
];

export function View({ id, query }) {
  const [error, fail] = useState(null);
  const schemas = useSchemas(fail);
  if (id) return html`<${KernelJob} id=${id} />`;
  if (error) return html`<${Problem} error=${error} />`;
  if (!schemas) return html`<${Loading} what="Loading the catalogue of layers" />`;
  return html`<${Kernels} schemas=${schemas} query=${query} />`;
}

function Kernels({ schemas, query }) {
  const edited = useSpec({ view: "kernels", name: "KernelSpec", query, start: START, schemas });
  const { spec } = edited;
  const { errors, live, send, isSending, failed } = useSending(edited);
  const [{ answer, of }, show] = useState({});
  const arrived = useRef(Boolean(query.spec)); // with a spec in hand, what is quick is computed unasked
  const body = tidied(spec, "KernelSpec", schemas);
  const compute = async () => {
    const told = await send("/kernel", body);
    if (told?.links) location.hash = `#/kernels/${told.id}`;
    else if (told) show({ answer: told, of: body });
  };
  const estimated = (wrong, estimate) => {
    live(wrong);
    if (arrived.current && estimate?.answered === "at once") compute();
    arrived.current = false;
  };
  return html`
    <div class="intro">
      <h1>Kernels</h1>
      <p class="lead">How alike a network finds two inputs: the neural tangent kernel decides how training on one
        moves the output on the other.</p>
    </div>
    ${answer && html`<${Result} answer=${answer} spec=${of} isOld=${JSON.stringify(of) !== JSON.stringify(body)} />`}
    <div class="compose">
      <${SpecForm} schemas=${schemas} name="KernelSpec" spec=${spec} errors=${errors} change=${edited.change} sections=${SECTIONS} />
      <aside class="beside" aria-label="What it costs, and how to compute it">
        <div class="card">
          <p class="actions">
            <button class="button primary" disabled=${isSending} onClick=${compute}>${isSending ? "Computing…" : "Compute"}</button>
            <${Share} view="kernels" spec=${body} />
          </p>
          <${Wrong} errors=${errors} />
          ${failed && html`<${Problem} error=${failed} />`}
          <${Cost} path="/kernel/estimate" title="Estimate" spec=${body} isSettled=${edited.settled === spec} onFound=${estimated} />
        </div>
        <${Programs} path="/kernel" spec=${body} />
        <${Large} />
      </aside>
    </div>`;
}

/** Large kernels that were asked for. */
function Large() {
  const [jobs, keep] = useState(null);
  const [error, fail] = useState(null);
  useEffect(() => void get("/kernels?limit=20").then(({ kernels }) => keep(kernels), fail), []);
  return html`
    <section class="card" aria-label="Large kernels">
      <h2>Large kernels</h2>
      ${error && html`<${Problem} error=${error} />`}
      ${jobs?.length === 0 && html`<${Empty} title="None yet">What takes long becomes a job, and is listed here.<//>`}
      <ul class="jobs">${jobs?.map((job) => html`
        <li key=${job.id}>
          <a href=${`#/kernels/${job.id}`}>${job.shape.slice(0, 2).join(" × ")}</a>
          <${StatusBadge} job=${job} />
          <span class="quiet">${new Date(job.created_at).toLocaleString()}</span>
        </li>`)}</ul>
    </section>`;
}
