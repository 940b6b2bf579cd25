// What views of jobs have in common: to ask for one by its spec, those asked for before, and one as it changes.
import { html, useEffect, useState } from "../page/html.js";
import { follow, get, openapi } from "../page/api.js";
import { Empty, Loading } from "../components/empty.js";
import { Problem } from "../components/problem.js";
import { StatusBadge } from "../components/status.js";
import { Cost, Programs, Share } from "./compose_aside.js";
import { Wrong, tidied, useSchemas, useSending, useSpec } from "./compose_form.js";

/**
 * Compose a spec of class `name` and post it to `/view`. `none` is said where the service has no such jobs;
 * `fields` draws the form from `{schemas, name, spec, errors, change}`; `children` head the page, `before` ends
 * what stands beside.
 */
export function Asked({ view, name, none, query, start, fields, button, before, children }) {
  const [error, fail] = useState(null);
  const schemas = useSchemas(fail);
  if (error) return html`<${Problem} error=${error} />`;
  if (!schemas) return html`<${Loading} what="Loading" />`;
  if (!schemas[name]) return html`<${Empty} title=${none}>This service does not make them.<//>`;
  return html`<${Composed} ...${{ view, name, query, start, fields, button, before, schemas }}>${children}<//>`;
}

function Composed({ view, name, query, start, fields, button, before, schemas, children }) {
  const edited = useSpec({ view, name, query, start, schemas });
  const { spec, change } = edited;
  const { errors, live, send, isSending, failed } = useSending(edited);
  const body = tidied(spec, name, schemas);
  const begin = async () => {
    const started = await send(`/${view}`, body);
    if (started) location.hash = `#/${view}/${started.id}`;
  };
  return html`
    <div class="intro">${children}</div>
    <div class="compose">
      ${fields({ schemas, name, spec, errors, change })}
      <aside class="beside" aria-label="What it costs, and how to start it">
        <div class="card">
          <p class="actions">
            <button class="button primary" disabled=${isSending} onClick=${begin}>${isSending ? "Starting…" : button}</button>
            <${Share} view=${view} spec=${body} />
          </p>
          <${Wrong} errors=${errors} />
          ${failed && html`<${Problem} error=${failed} />`}
          <${Cost} path=${`/${view}/estimate`} title="Estimate" spec=${body} isSettled=${edited.settled === spec} onFound=${live} />
        </div>
        <${Programs} path=${`/${view}`} spec=${body} />
        ${before}
      </aside>
    </div>`;
}

/**
 * A job as it changes, by its events: `{job, state, error, keep}`; `state` is "open", "lost" or "ended". It is
 * loaded again after each event, or is what `take(job, event)` makes of it, and loaded again at the end.
 */
export function useJob(path, take = null) {
  const [job, keep] = useState(null);
  const [state, tell] = useState("open");
  const [error, fail] = useState(null);
  useEffect(() => {
    const stop = new AbortController();
    const load = () => get(path, { signal: stop.signal }).then(keep);
    const again = () => load().catch(() => {}); // the next event asks again
    const onEvent = take ? (event) => keep((known) => take(known, event)) : again;
    load()
      .then(() => follow(`${path}/events`, { signal: stop.signal, onEvent, onState: tell }))
      .then(again)
      .catch((refused) => stop.signal.aborted || fail(refused));
    return () => stop.abort();
  }, [path]);
  return { job, state, error, keep };
}

/** Jobs of `/name`, where the service lists them; `badge` is the job as its badge shows it. */
export function Before({ name, title, badge = (job) => job }) {
  const [jobs, keep] = useState([]);
  useEffect(() => {
    const load = async () => {
      const { paths } = await openapi();
      if (!paths[`/${name}`]?.get) return;
      const page = await get(`/${name}?limit=20`);
      keep(Object.values(page).find(Array.isArray) ?? []);
    };
    load().catch(() => {}); // a list to go back to is no reason to complain
  }, []);
  if (!jobs.length) return null;
  return html`
    <section class="card" aria-label=${title}>
      <h2>${title}</h2>
      <ul class="jobs">${jobs.map((job) => html`
        <li key=${job.id}>
          <a href=${`#/${name}/${job.id}`}>${new Date(job.created_at).toLocaleString()}</a>
          <${StatusBadge} job=${badge(job)} />
        </li>`)}</ul>
    </section>`;
}
