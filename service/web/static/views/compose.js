// A network, data and training are put together, and run.
import { html, useEffect, useState } from "../page/html.js";
import { get } from "../page/api.js";
import { Loading } from "../components/empty.js";
import { Problem } from "../components/problem.js";
import { SpecForm, Wrong, addressOf, tidied, useSchemas, useSending, useSpec } from "./compose_form.js";
import { Cost, Programs, Share } from "./compose_aside.js";

const START = {
  model: {
    parameterization: { kind: "ntk" },
    layers: [{ kind: "dense", width: 256, W_std: 1.4, b_std: 0.5 }, { kind: "relu" }, { kind: "dense", width: 1 }],
  },
  data: {
    x: [[-1], [-0.6], [-0.2], [0.2], [0.6], [1]],
    y: [[-0.2], [-0.9], [-0.5], [0.5], [0.9], [0.2]],
    x_test: Array.from({ length: 25 }, (_, i) => [Math.round(-1200 + 100 * i) / 1000]),
  },
  training: { kind: "gradient_descent", learning_rate: 0.1, steps: 1000 },
  record: [{ what: "loss" }, { what: "outputs" }, { what: "kernel" }, { what: "slopes" }, { what: "kernel_distance" }],
};

const SECTIONS = [
  { title: "Network", names: ["model"], says: "Layers from the inputs to the outputs. Every hidden layer has a width." },
  { title: "Data", names: ["data"], says: "A row of numbers for each point. Test points are only watched." },
  { title: "Training", names: ["training"] },
  { title: "Record", names: ["record"], says: "What is written down while it trains, and when." },
  { title: "Start", names: ["seed", "seeds", "weights"],
    says: "One seed, or several to train as many networks side by side." },
];

export function View({ query }) {
  const [error, fail] = useState(null);
  const schemas = useSchemas(fail);
  if (error) return html`<${Problem} error=${error} />`;
  if (!schemas) return html`<${Loading} what="Loading the catalogue of layers" />`;
  return html`<${Composer} schemas=${schemas} query=${query} />`;
}

function Composer({ schemas, query }) {
  const edited = useSpec({ view: "compose", name: "RunSpec", query, start: START, schemas });
  const { spec } = edited;
  const { errors, live, send, isSending, failed } = useSending(edited);
  const body = tidied(spec, "RunSpec", schemas);
  const run = async () => {
    const started = await send("/runs", body);
    if (started) location.hash = `#/runs/${started.id}`;
  };
  const kernel = { model: body.model, x1: body.data?.x, of: { kind: "infinite" } };
  return html`
    <div class="intro">
      <h1>Compose a network</h1>
      <p class="lead">Describe a network, data and training. What it costs and what is wrong is said as you type.</p>
      <${Experiments} choose=${edited.set} />
    </div>
    <div class="compose">
      <${SpecForm} schemas=${schemas} name="RunSpec" spec=${spec} errors=${errors} change=${edited.change} sections=${SECTIONS} />
      <aside class="beside" aria-label="What it costs, and how to start it">
        <div class="card">
          <p class="actions">
            <button class="button primary" disabled=${isSending} onClick=${run}>${isSending ? "Starting…" : "Run"}</button>
            <a class="button" href=${addressOf("kernels", kernel)}>Kernel</a>
            ${schemas.RegimeSpec && html`<a class="button" href=${addressOf("regime", regimeOf(body))}>Regime report</a>`}
          </p>
          <${Share} view="compose" spec=${body} />
          <${Wrong} errors=${errors} />
          ${failed && html`<${Problem} error=${failed} />`}
          <${Cost} path="/runs/estimate" title="Estimate" spec=${body} isSettled=${edited.settled === spec} onFound=${live} />
        </div>
        <${Programs} path="/runs" spec=${body} />
      </aside>
    </div>`;
}

const regimeOf = ({ model, data, training }) => ({ model, data, training });

/** Begin with the spec of an experiment. */
function Experiments({ choose }) {
  const [known, keep] = useState([]);
  useEffect(() => void get("/experiments").then(({ experiments }) => keep(experiments), () => {}), []);
  const pick = (event) => {
    const found = known.find((each) => each.name === event.target.value);
    if (found) choose(found.spec);
  };
  return html`
    <label class="start-from">Start from
      <select onChange=${pick}>
        <option value="">an experiment of the catalogue</option>
        ${known.map((each) => html`<option value=${each.name}>${each.title}</option>`)}
      </select>
    </label>`;
}
