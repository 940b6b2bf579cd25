// A large kernel: its tiles as they fill in, and every way to read it.
import { html, useEffect, useRef, useState } from "../page/html.js";
import { get, npy, raw } from "../page/api.js";
import { save } from "../page/files.js";
import { Copy } from "../components/copy.js";
import { Loading } from "../components/empty.js";
import { Heatmap } from "../components/heatmap.js";
import { Problem } from "../components/problem.js";
import { Status } from "../components/status.js";
import { counted, sized } from "./compose_aside.js";
import { useJob } from "./jobs.js";
import { Facts } from "./kernels_result.js";

const NPY = { headers: { Accept: "application/x-npy" } };
const MOST_BYTES = 1e9; // a browser holds a file in memory before it saves it

export function KernelJob({ id }) {
  const { job, state, error, keep } = useJob(`/kernels/${id}`);
  if (error) return html`<${Problem} error=${error} />`;
  if (!job) return html`<${Loading} what="Loading the kernel" />`;
  const [rows, columns] = job.shape;
  return html`
    <div class="intro">
      <p><a href="#/kernels">Kernels</a></p>
      <h1>A kernel of ${rows.toLocaleString("en")} × ${columns.toLocaleString("en")}</h1>
    </div>
    ${state === "lost" && html`<p class="banner" role="status">The connection is lost. It is taken up again by itself.</p>`}
    <${Status} job=${job} onChange=${keep} onGone=${() => { location.hash = "#/kernels"; }} />
    <h2 class="unseen">The kernel</h2>
    <div class="kernel-job">
      <${Preview} job=${job} />
      <div class="kernel-facts">
        <${Tiles} job=${job} />
        ${job.result && html`<${Facts} ...${job.result} plan=${job.plan} seconds=${job.result.seconds} />`}
        <${Reading} job=${job} />
      </div>
    </div>`;
}

/** The kernel as a whole, small; asked for again whenever a tile is done. */
function Preview({ job }) {
  const [means, keep] = useState(null);
  const done = job.progress.tiles?.done ?? 0;
  const shown = useRef(0);
  useEffect(() => {
    if (!done) return;
    raw(job.links.preview, NPY).then(npy).then((found) => {
      if (done >= shown.current) keep(found);
      shown.current = done;
    }, () => {}); // the next tile asks again
  }, [done, job.status]);
  if (!means) return html`<div class="card preview-waits"><${Loading} what="The first tile is being computed" /></div>`;
  const [rows] = job.shape;
  const note = means.shape[0] < rows ? `Every cell is a mean over about ${Math.round(rows / means.shape[0])} inputs.` : null;
  return html`<${Heatmap} title="Preview" data=${means.data} shape=${means.shape.slice(0, 2)} note=${note} labels=${["row", "column"]} />`;
}

function Tiles({ job }) {
  const { tiles, crashes } = job.progress;
  const { plan, request } = job;
  return html`
    <section class="card facts" aria-label="The work">
      <h2>The work</h2>
      <p>${tiles ? `${tiles.done} of ${tiles.total} tiles of ${tiles.shape.slice(0, 2).join(" × ")} are done.` : "Its process has not begun."}
        ${crashes > 0 && ` Its process died ${crashes} times and was replaced; nothing was lost.`}</p>
      <p>Estimated: ${counted(plan.flops)} operations, ${sized(plan.disk_bytes)} on disk, in ${request.dtype}.</p>
    </section>`;
}

/** Ways to read it: a file, any part, the Zarr store. */
function Reading({ job }) {
  const [error, fail] = useState(null);
  const [isLoading, wait] = useState(false);
  const names = job.request.of.get ?? ["ntk"];
  const bytes = job.plan.disk_bytes;
  const isReady = job.status === "succeeded";
  const download = async (name) => {
    wait(true);
    fail(null);
    await raw(`${job.links.data}?kernel=${name}`, NPY).then((found) => save(new Blob([found]), `${name}.npy`), fail);
    wait(false);
  };
  const zarr = `zarr.open_group("${location.origin}${job.links.zarr}", mode="r")`;
  const part = `curl '${location.origin}${job.links.data}?rows=0:10&cols=0:10' -H 'Accept: application/x-npy' -o part.npy`;
  return html`
    <section class="card reading-ways" aria-label="Reading it">
      <h2>Read it</h2>
      ${bytes < MOST_BYTES && html`
        <p class="actions">${names.map((name) => html`
          <button class="button" disabled=${!isReady || isLoading} onClick=${() => download(name)}>
            Download ${name}.npy</button>`)}</p>`}
      ${error && html`<${Problem} error=${error} />`}
      <p>Any part, also while it is computed: <${Copy} text=${part} label="Copy" /></p>
      <pre tabindex="0" aria-label="Command that reads a part"><code>${part}</code></pre>
      <p>All of it as a Zarr store: <${Copy} text=${zarr} label="Copy" /></p>
      <pre tabindex="0" aria-label="Python that opens the store"><code>${zarr}</code></pre>
    </section>`;
}
