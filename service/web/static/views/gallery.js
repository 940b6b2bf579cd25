// The experiments of the catalogue, one click from running.
import { html, useEffect, useState } from "../page/html.js";
import { get, post } from "../page/api.js";
import { Code } from "../components/copy.js";
import { Loading } from "../components/empty.js";
import { Problem } from "../components/problem.js";

const FIRST_KERNEL = `{
  "model": {
    "parameterization": {"kind": "ntk"},
    "layers": [
      {"kind": "dense"},
      {"kind": "relu"},
      {"kind": "dense", "width": 1}]},
  "x1": [[1.0, 0.0], [0.6, 0.8]],
  "of": {"kind": "infinite"}}`;

function Experiment({ experiment }) {
  const [starting, start] = useState(false);
  const [error, fail] = useState(null);
  const run = async () => {
    start(true);
    fail(null);
    try {
      location.hash = `#/runs/${(await post("/runs", { experiment: experiment.name })).id}`;
    } catch (refused) {
      start(false);
      fail(refused);
    }
  };
  return html`
    <article class="card experiment">
      <h2>${experiment.title}</h2>
      <p>${experiment.shows}</p>
      <details>
        <summary>What to expect</summary>
        <ul>${experiment.expect.map((line) => html`<li>${line}</li>`)}</ul>
      </details>
      <p class="actions">
        <button class="button primary" disabled=${starting} onClick=${run}
          aria-label=${`Run: ${experiment.title}`}>${starting ? "Starting…" : "Run"}</button>
        <a class="button" href=${`#/compose?spec=${encodeURIComponent(JSON.stringify(experiment.spec))}`}
          aria-label=${`Change it: ${experiment.title}`}>Change it</a>
        <a href=${`#/runs?experiment=${experiment.name}`} aria-label=${`Its runs: ${experiment.title}`}>Its runs</a>
      </p>
      ${error && html`<${Problem} error=${error} />`}
    </article>`;
}

/** What is no run, and yet of the notes: their first figure. */
const OnePoint = () => html`
  <article class="card experiment">
    <h2>One more training point</h2>
    <p>A point that is added moves the function everywhere, by as much as the kernel says.</p>
    <p class="actions"><a class="button primary" href="#/influence" aria-label="Open: One more training point">Open</a></p>
  </article>`;

export function View() {
  const [experiments, show] = useState(null);
  const [error, fail] = useState(null);
  const load = () => {
    fail(null);
    get("/experiments").then((found) => show(found.experiments), fail);
  };
  useEffect(load, []);
  return html`
    <div class="intro">
      <h1>Does the kernel describe training?</h1>
      <p class="lead">
        A very wide network trains like a kernel method, with its neural tangent kernel at the start. Each
        experiment trains a real network and shows, point by point, what that kernel predicts beside what happens.
      </p>
    </div>
    ${error && html`<${Problem} error=${error} retry=${load} />`}
    ${!experiments && !error && html`<${Loading} what="Loading experiments" />`}
    <div class="grid">
      ${experiments && html`<${OnePoint} />`}
      ${experiments?.map((each) => html`<${Experiment} key=${each.name} experiment=${each} />`)}
    </div>
    <section class="terminal">
      <h2>A first kernel, from a terminal</h2>
      <p>Two inputs, an infinitely wide network with one hidden layer of rectified units.${" "}
        <a href="/docs">All that this page does</a> is open to programs.</p>
      <${Code} label="Command" text=${`curl ${location.origin}/kernel -H 'Content-Type: application/json' \\
  -d '${FIRST_KERNEL}'`} />
    </section>`;
}
