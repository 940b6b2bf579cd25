// One more training point: how the function moves everywhere, and how the kernel says that it does.
import { html, useEffect, useState } from "../page/html.js";
import { Loading } from "../components/empty.js";
import { Problem } from "../components/problem.js";
import { Programs, Share } from "./compose_aside.js";
import { SpecForm, Wrong, tidied, useSchemas, useSending, useSpec } from "./compose_form.js";
import { Moved, lineOf } from "./influence_result.js";

const START = {
  model: {
    parameterization: { kind: "ntk" },
    layers: [{ kind: "dense", width: 512, b_std: 0.5 }, { kind: "tanh" }, { kind: "dense", width: 1 }],
  },
  data: { x: [[-1], [0]], y: [[0.5], [0]] },
  x_new: [[1]],
  y_new: [[0.5]],
  points: Array.from({ length: 81 }, (_, i) => [Math.round(-2000 + 50 * i) / 1000]),
  training: { kind: "gradient_flow", t_end: 300 },
};

const SECTIONS = [
  { title: "The new point", names: ["x_new", "y_new"] },
  { title: "Data", names: ["data", "points"], says: "What it is trained on first, and where the function is watched." },
  { title: "Network", names: ["model", "seed"] },
  { title: "Training", names: ["training"], says: "First without the new point, then as long with it." },
];

export function View({ query }) {
  const [error, fail] = useState(null);
  const schemas = useSchemas(fail);
  if (error) return html`<${Problem} error=${error} />`;
  if (!schemas) return html`<${Loading} what="Loading the catalogue of layers" />`;
  return html`<${Influence} schemas=${schemas} query=${query} />`;
}

function Influence({ schemas, query }) {
  const edited = useSpec({ view: "influence", name: "InfluenceSpec", query, start: START, schemas });
  const { errors, send, isSending, failed } = useSending(edited);
  const [{ answer, of }, show] = useState({});
  const body = tidied(edited.spec, "InfluenceSpec", schemas);
  const add = async (spec) => {
    const told = await send("/influence", spec);
    if (told) show({ answer: told, of: spec });
  };
  useEffect(() => void add(body), []);
  const place = (x) => { // a click on the figure puts the new point there
    if (isSending || !lineOf(body)) return;
    const at = [[Number(x.toPrecision(3))]];
    edited.change("/x_new", at);
    add({ ...body, x_new: at });
  };
  const isOld = answer && JSON.stringify(of) !== JSON.stringify(body);
  return html`
    <div class="intro">
      <h1>One more point</h1>
      <p class="lead">A network is trained, given one more point, and trained on. Its function moves everywhere;
        the kernel, as it was when the point came, says how.</p>
    </div>
    ${answer && html`<${Moved} answer=${answer} spec=${of} place=${place} />`}
    ${!answer && isSending && html`<${Loading} what="Training, twice" />`}
    <div class="compose">
      <${SpecForm} schemas=${schemas} name="InfluenceSpec" spec=${edited.spec} errors=${errors} change=${edited.change} sections=${SECTIONS} />
      <aside class="beside" aria-label="How to compute it">
        <div class="card">
          <p class="actions">
            <button class="button primary" disabled=${isSending} onClick=${() => add(body)}>${isSending ? "Training…" : "Add the point"}</button>
            <${Share} view="influence" spec=${body} />
          </p>
          ${isOld && !isSending && html`<p class="quiet">The form was changed since: add the point again.</p>`}
          <${Wrong} errors=${errors} />
          ${failed && html`<${Problem} error=${failed} />`}
        </div>
        <${Programs} path="/influence" spec=${body} />
      </aside>
    </div>`;
}
