// How far a job is, and the ways to end it.
import { html, useState } from "../page/html.js";
import { post, remove } from "../page/api.js";
import { Problem } from "./problem.js";

const UNITS = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
const WORDS = { stopped: "ended" }; // it ended where its spec says, nobody stopped it
const UNENDED = new Set(["queued", "running"]);

/** Seconds in words: "2 min 5 s". */
export function duration(seconds) {
  const at = UNITS.findIndex(([size]) => seconds >= size);
  if (at < 0) return "less than a second";
  const [size, unit] = UNITS[at];
  const [smaller, smallUnit] = UNITS[at + 1] ?? [];
  const rest = smaller ? Math.floor((seconds % size) / smaller) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${smallUnit}` : ""}`;
}

export const ended = (job) => !UNENDED.has(job.status);

/** The word for a job's state, coloured. */
export const StatusBadge = ({ job }) => html`
  <span class="badge ${job.outcome ?? job.status}">${WORDS[job.outcome] ?? job.outcome ?? job.status}</span>`;

/** `job` as the service gives it; `onGone` is called when it was deleted, `onChange` with a cancelled one. */
export function Status({ job, onGone, onChange = () => {}, children }) {
  const [error, fail] = useState(null);
  const fraction = job.progress?.fraction ?? 0;
  const attempt = (action) => () => action().catch(fail);
  const cancel = attempt(async () => onChange(await post(job.links.cancel)));
  const forget = attempt(async () => {
    if (!confirm("Delete this for good, with all that it recorded?")) return;
    await remove(job.links.self);
    onGone?.();
  });
  return html`
    <div class="status">
      <${StatusBadge} job=${job} />
      ${!ended(job) && html`
        <span class="quiet">${job.meaning}</span>
        <progress max="1" value=${fraction} aria-label="Progress"></progress>
        <span class="number">${(100 * fraction).toFixed(0)} %</span>
        <span class="quiet">${left(job)}</span>`}
      <span class="actions">
        ${children}
        ${!ended(job) && html`<button class="button" type="button" onClick=${cancel}>Cancel</button>`}
        ${onGone && html`<button class="button danger" type="button" onClick=${forget}>Delete</button>`}
      </span>
      ${job.error && html`<${Problem} error=${{ message: job.error.detail, problem: job.error }} />`}
      ${error && html`<${Problem} error=${error} />`}
    </div>`;
}

const left = ({ seconds_left: seconds }) => (seconds == null ? "" : `${duration(seconds)} left`);
