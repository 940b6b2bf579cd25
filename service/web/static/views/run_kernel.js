// The kernel at the chosen time, as a heat map.
import { html, useEffect, useState } from "../page/html.js";
import { npy, raw } from "../page/api.js";
import { indexAt, shapeOf, show } from "../page/numbers.js";
import { Heatmap } from "../components/heatmap.js";
import { Loading } from "../components/empty.js";
import { membersOf } from "./run_charts.js";
import { Choice } from "./run_plane.js";

const QUIET_MS = 120; // a moving slider asks for nothing
const KEPT = 24;
const fetchedArrays = new Map();

export const hasKernel = (all) => all.has("kernel");

export function KernelPanel({ all, run, at }) {
  const { time, value } = all.get("kernel");
  const index = indexAt(time, at.value ?? Infinity);
  const members = membersOf(run.spec);
  const [member, choose] = useState(0);
  const array = useArray(value[index]);
  const matrix = array && matrixOf(array, members === null ? null : member);
  if (!matrix) return html`<div class="card"><${Loading} what="Loading the kernel" /></div>`;
  return html`
    <${Heatmap} ...${matrix} title="Kernel" labels=${["x", "x′"]}
      note=${`Θ at t = ${show(time[index])}${matrix.blocks ? ", mean over outputs" : ""}`}>
      ${members > 1 && html`<p class="actions choices"><${Choice} label="Kernel of member" count=${members}
        value=${member} choose=${choose} /></p>`}
    <//>`;
}

/** A recorded array as {shape, data}; what is kept apart is fetched, once, when it is looked at. */
function useArray(value) {
  const [found, show_] = useState(null);
  const digest = value.kind === "array" ? value.digest : null;
  useEffect(() => {
    if (!digest) return undefined;
    const arrive = () => show_({ digest, array: fetchedArrays.get(digest) });
    if (fetchedArrays.has(digest)) return arrive();
    const timer = setTimeout(() => fetchArray(value).then(arrive, () => {}), QUIET_MS);
    return () => clearTimeout(timer);
  }, [digest]);
  if (!digest) return { shape: shapeOf(value), data: Float64Array.from(value.flat(Infinity)) };
  return fetchedArrays.get(digest) ?? found?.array; // the one before, until this one is here
}

async function fetchArray({ digest, href }) {
  fetchedArrays.set(digest, npy(await raw(href)));
  if (fetchedArrays.size > KEPT) fetchedArrays.delete(fetchedArrays.keys().next().value);
}

/** The matrix over points: of one member, and the mean over outputs where there are blocks for them. */
function matrixOf({ shape, data }, member) {
  const [own, start] = member === null ? [shape, 0] : [shape.slice(1), member];
  const size = own.reduce((all, each) => all * each, 1);
  const part = data.subarray(start * size, (start + 1) * size);
  const [rows, columns, outputs = 1] = own;
  if (outputs === 1) return { shape: [rows, columns], data: part };
  const mean = Float64Array.from({ length: rows * columns }, (_, pair) => {
    let sum = 0;
    for (let a = 0; a < outputs; a++) sum += part[pair * outputs * outputs + a * (outputs + 1)];
    return sum / outputs;
  });
  return { shape: [rows, columns], data: mean, blocks: true };
}
