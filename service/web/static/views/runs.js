// All runs, page by page; one run has a view of its own.
import { html, useEffect, useState } from "../page/html.js";
import { get } from "../page/api.js";
import { Empty, Loading } from "../components/empty.js";
import { Problem } from "../components/problem.js";
import { StatusBadge, duration, ended } from "../components/status.js";
import { RunView } from "./run.js";

const PAGE = 100;
const REFRESH_MS = 4000;
const STATUSES = ["queued", "running", "succeeded", "failed", "cancelled"];

export const View = ({ id, query }) => (id
  ? html`<${RunView} key=${id} id=${id} query=${query} />`
  : html`<${List} key=${JSON.stringify(query)} query=${query} />`);

function List({ query }) {
  const { status = "", experiment = "" } = query;
  const [runs, show] = useState(null);
  const [next, follow] = useState(null);
  const [error, fail] = useState(null);
  const [chosen, choose] = useState(new Set());
  const load = (cursor) => get(`/runs?${asked({ status, experiment, limit: PAGE, cursor })}`).then((page) => {
    fail(null);
    show((before) => (cursor ? [...before, ...page.runs] : page.runs));
    follow(page.next);
  }, fail);
  useEffect(() => void load(), []);
  useRefresh(runs, show);
  const select = (run) => (event) => {
    const changed = new Set(chosen);
    if (event.target.checked) changed.add(run.id);
    else changed.delete(run.id);
    choose(changed);
  };
  const filter = (event) => { location.hash = `#/runs?${asked({ experiment, status: event.target.value })}`; };
  return html`
    <h1>Runs</h1>
    <div class="actions tools">
      <label>Status <select value=${status} onChange=${filter}>
        <option value="">all</option>
        ${STATUSES.map((each) => html`<option value=${each} selected=${each === status}>${each}</option>`)}
      </select></label>
      ${experiment && html`<span>Experiment <strong>${experiment}</strong> <a href="#/runs">show all</a></span>`}
      <a class="button ${chosen.size > 1 ? "primary" : ""}" href=${`#/compare?ids=${[...chosen].join(",")}`}
        aria-disabled=${chosen.size < 1}>Compare ${chosen.size || ""} chosen</a>
    </div>
    ${error && html`<${Problem} error=${error} retry=${() => load()} />`}
    ${!runs && !error && html`<${Loading} what="Loading runs" />`}
    ${runs?.length === 0 && html`<${Empty} title="No runs here yet">
      <a href="#/">Start one from the experiments.</a><//>`}
    ${runs?.length > 0 && html`<${Table} runs=${runs} chosen=${chosen} select=${select} />`}
    ${next && html`<p><button class="button" onClick=${() => load(next)}>Show more</button></p>`}`;
}

const asked = (parts) => new URLSearchParams(Object.entries(parts).filter(([, value]) => value)).toString();

/** Runs on the list that have not ended are asked for again, as long as there are any. */
function useRefresh(runs, show) {
  const waiting = runs?.some((run) => !ended(run));
  useEffect(() => {
    if (!waiting) return undefined;
    const timer = setInterval(() => {
      get(`/runs?limit=${PAGE}`).then((page) => {
        const fresh = new Map(page.runs.map((run) => [run.id, run]));
        show((before) => before.map((run) => fresh.get(run.id) ?? run));
      }, () => {});
    }, REFRESH_MS);
    return () => clearInterval(timer);
  }, [waiting]);
}

const Table = ({ runs, chosen, select }) => html`
  <div class="rows" role="region" aria-label="Runs" tabindex="0">
    <table>
      <thead><tr><th scope="col"><span class="unseen">Choose</span></th><th scope="col">Run</th>
        <th scope="col">Status</th><th scope="col" class="more">Progress</th><th scope="col" class="more">Points</th>
        <th scope="col" class="more">Took</th><th scope="col" class="more">Started</th></tr></thead>
      <tbody>${runs.map((run) => html`<${Row} key=${run.id} run=${run} chosen=${chosen.has(run.id)}
        select=${select(run)} />`)}</tbody>
    </table>
  </div>`;

function Row({ run, chosen, select }) {
  const name = run.experiment ?? run.network ?? "own network";
  const { fraction, points } = run.progress;
  return html`
    <tr>
      <td><input type="checkbox" checked=${chosen} onChange=${select} aria-label=${`Choose ${name} ${run.id}`} /></td>
      <td><a href=${`#/runs/${run.id}`}>${name}</a> <span class="quiet number more">${run.id.slice(0, 6)}</span></td>
      <td><${StatusBadge} job=${run} /></td>
      <td class="number more">${(100 * fraction).toFixed(0)} %</td>
      <td class="number more">${points}</td>
      <td class="more">${run.ended_at && run.started_at ? duration((new Date(run.ended_at) - new Date(run.started_at)) / 1000) : ""}</td>
      <td class="more">${new Date(run.created_at).toLocaleString()}</td>
    </tr>`;
}
