// What a run leaves to take along, and what it was asked for.
import { html, useEffect, useState } from "../page/html.js";
import { openapi } from "../page/api.js";
import { fetched } from "../page/files.js";
import { Code, Copy } from "../components/copy.js";

const FORMATS = { csv: "CSV", npz: "npz (numpy)", parquet: "Parquet", json: "JSON" };

export function Downloads({ run }) {
  const [exported, know] = useState([]);
  useEffect(() => {
    openapi().then(({ paths }) => know(formats(paths["/runs/{job_id}/export"])), () => {});
  }, []);
  const spec = JSON.stringify(run.spec, null, 2);
  return html`
    <section class="downloads">
      <h2>Take it along</h2>
      <p class="actions">
        ${exported.map((format) => html`
          <a class="button" href=${`/runs/${run.id}/export?format=${format}`} download=${`${run.id}.${format}`}
            onClick=${fetched}>${FORMATS[format] ?? format}</a>`)}
        ${!exported.includes("json") && html`
          <a class="button" href=${`/runs/${run.id}`} download=${`${run.id}.json`} onClick=${fetched}>JSON</a>`}
        <${Copy} text=${location.href} label="Copy the address of this view" />
      </p>
      <details>
        <summary>The request that makes this run</summary>
        <${Code} label="Specification of the run" text=${spec} />
        <p><a class="button" href=${`#/compose?spec=${encodeURIComponent(JSON.stringify(run.spec))}`}>Change it and
          run again</a></p>
      </details>
    </section>`;
}

/** The formats that the service's description names. */
function formats(path) {
  const wanted = path?.get.parameters.find(({ name }) => name === "format")?.schema;
  const named = wanted?.enum ?? wanted?.anyOf?.flatMap((each) => each.enum ?? []) ?? [];
  return named.length || !path ? named : Object.keys(FORMATS);
}
