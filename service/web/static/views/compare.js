// Runs side by side: every number that they recorded, and how it depends on what they differ in.
import { html, useEffect, useMemo, useState } from "../page/html.js";
import { get } from "../page/api.js";
import { differences, names, quantities } from "../page/comparison.js";
import { median } from "../page/exponent.js";
import { show } from "../page/numbers.js";
import { Chart } from "../components/chart.js";
import { Empty, Loading } from "../components/empty.js";
import { Problem } from "../components/problem.js";
import { StatusBadge, ended } from "../components/status.js";
import { Sweeps } from "./compare_sweeps.js";

const MOST_POINTS = 600;
const REFRESH_MS = 3000;
const NUMBERS = ["loss", "loss_test", "kernel_distance", "linearized", "alignment", "cka", "kernel_velocity",
  "displacement", "sharpness", "layer_share", "path"]; // in the order of the charts
const LOGARITHMIC = /loss|distance|displacement|error|velocity/;

const addressFor = (ids) => `#/compare?ids=${ids.join(",")}`;

export function View({ query }) {
  const ids = useMemo(() => (query.ids ? query.ids.split(",").filter(Boolean) : []), [query.ids]);
  const { runs, error } = useRuns(ids);
  return html`
    <div class="intro">
      <h1>Compare runs</h1>
      <p class="lead">Over one another, and by what they differ in. The address keeps the choice.</p>
    </div>
    ${error && html`<${Problem} error=${error} />`}
    ${ids.length === 0 && html`<${Empty} title="No runs are chosen">Choose some from the list.<//>`}
    ${ids.length > 0 && !runs && !error && html`<${Loading} what="Loading runs" />`}
    ${runs?.length > 0 && html`<${Compared} runs=${runs} ids=${ids} />`}
    <${Picker} ids=${ids} />`;
}

/** A run with the numbers that it records, without its matrices: a run knows only names that it records. */
async function withNumbers(id, signal) {
  const { spec } = await get(`/runs/${id}?fields=`, { signal });
  const recorded = new Set((spec.record ?? []).map(({ what }) => what));
  if (recorded.has("loss") && spec.data.y_test) recorded.add("loss_test");
  const fields = NUMBERS.filter((name) => recorded.has(name));
  return get(`/runs/${id}?max_points=${MOST_POINTS}&fields=${fields.join()}`, { signal });
}

/** Runs by their ids, asked for again while some have not ended. */
function useRuns(ids) {
  const [runs, keep] = useState(null);
  const [error, fail] = useState(null);
  useEffect(() => {
    const stop = new AbortController();
    let clock;
    const load = async () => {
      try {
        const found = await Promise.all(ids.map((id) => withNumbers(id, stop.signal)));
        keep(found);
        fail(null);
        if (found.some((run) => !ended(run))) clock = setTimeout(load, REFRESH_MS);
      } catch (refused) {
        if (!stop.signal.aborted) fail(refused);
      }
    };
    load();
    return () => {
      stop.abort();
      clearTimeout(clock);
    };
  }, [ids.join()]);
  return { runs, error };
}

function Compared({ runs, ids }) {
  const specs = runs.map((run) => run.spec);
  const differing = useMemo(() => differences(specs), [runs]);
  const labels = names(specs, differing).map((name, i) => name || runs[i].experiment || `run ${runs[i].id.slice(0, 6)}`);
  const numbers = useMemo(() => runs.map((run) => quantities(run.series)), [runs]);
  const place = (name) => NUMBERS.indexOf(name.split(", ")[0]);
  const known = [...new Set(numbers.flatMap((each) => Object.keys(each)))].sort((one, other) => place(one) - place(other));
  const atTheEnd = numbers.map((each, i) => (ended(runs[i]) ? each : {}));
  return html`
    <${Table} runs=${runs} labels=${unique(labels)} numbers=${numbers} ids=${ids} />
    <h2 class="over-time">Over time</h2>
    <section class="charts" aria-label="Over time">
      ${known.map((name) => html`<${Overlay} key=${name} name=${name} numbers=${numbers} labels=${unique(labels)} />`)}
    </section>
    <${Sweeps} differing=${differing} known=${known} numbers=${atTheEnd} />`;
}

const unique = (labels) => labels.map((label, i) => (labels.indexOf(label) === labels.lastIndexOf(label) ? label : `${label} (${i + 1})`));

function Table({ runs, labels, numbers, ids }) {
  const last = (i) => numbers[i].loss && show(median(numbers[i].loss.members.map((values) => values.at(-1))), 3);
  return html`
    <div class="rows" role="region" aria-label="Runs that are compared" tabindex="0">
      <table>
        <thead><tr><th scope="col">Run</th><th scope="col">Status</th><th scope="col">Networks</th>
          <th scope="col">Last loss (median)</th><th scope="col"><span class="unseen">Leave out</span></th></tr></thead>
        <tbody>${runs.map((run, i) => html`
          <tr key=${run.id}>
            <th scope="row"><span class=${`line-sample s${(i % 8) + 1}`}></span><a href=${`#/runs/${run.id}`}>${labels[i]}</a></th>
            <td><${StatusBadge} job=${run} /></td>
            <td class="number">${run.spec.seeds?.length ?? 1}</td>
            <td class="number">${last(i)}</td>
            <td><a class="button small" href=${addressFor(ids.filter((id) => id !== run.id))}
              aria-label=${`Leave out ${labels[i]}`}>×</a></td>
          </tr>`)}</tbody>
      </table>
    </div>`;
}

/** One quantity of all runs; every network of a run is a line in its colour. */
function Overlay({ name, numbers, labels }) {
  const series = numbers.flatMap((each, i) => (each[name]?.members ?? []).map((y, member) => ({
    label: member === 0 ? labels[i] : "", x: each[name].time, y, color: `--s${(i % 8) + 1}`,
  })));
  return html`
    <${Chart} title=${name[0].toUpperCase() + name.slice(1).replaceAll("_", " ")} series=${series}
      x=${{ label: "training time" }} y=${{ label: name.split(", ").at(-1).replaceAll("_", " "), log: LOGARITHMIC.test(name) }} />`;
}

/** The latest runs, to choose from. */
function Picker({ ids }) {
  const [runs, keep] = useState(null);
  const [isOpen, open] = useState(ids.length === 0);
  const [error, fail] = useState(null);
  useEffect(() => {
    if (isOpen && !runs) get("/runs?limit=50").then((page) => keep(page.runs), fail);
  }, [isOpen]);
  const toggle = (id) => {
    location.hash = addressFor(ids.includes(id) ? ids.filter((each) => each !== id) : [...ids, id]);
  };
  return html`
    <details class="card picker" open=${isOpen} onToggle=${(event) => open(event.target.open)}>
      <summary>Choose runs</summary>
      ${error && html`<${Problem} error=${error} />`}
      ${runs?.length === 0 && html`<${Empty} title="There are no runs yet"><a href="#/compose">Compose one.</a><//>`}
      <ul class="jobs">${runs?.map((run) => html`
        <li key=${run.id}><label>
          <input type="checkbox" checked=${ids.includes(run.id)} onChange=${() => toggle(run.id)} />
          ${" "}${run.experiment ?? run.id.slice(0, 8)}</label>
          <${StatusBadge} job=${run} /><span class="quiet">${new Date(run.created_at).toLocaleString()}</span>
        </li>`)}</ul>
    </details>`;
}
