// What was asked for before in a view, to go back to.
import { html, useEffect, useState } from "../page/html.js";
import { get, openapi } from "../page/api.js";
import { StatusBadge } from "../components/status.js";

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
