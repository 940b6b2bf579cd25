// The weights of a small network in the plane of each neuron's two: where they can go, and where they went.
import { html, useMemo, useState } from "../page/html.js";
import { networkOf, weightsAt } from "../page/neurons.js";
import { extent, indexAt } from "../page/numbers.js";
import { Plane } from "../components/plane.js";
import { membersOf } from "./run_charts.js";

const MOST_NEURONS = 2000; // that are computed here at every move of the slider
const MOST_PATHS = 60;
const MOST_POINTS = 400; // of one path

export function hasPlane(all, { spec }) {
  const start = weightsAt(all, "weights", 0, membersOf(spec) === null ? null : 0);
  return networkOf(spec) !== null && start !== null && start.w.length <= MOST_NEURONS;
}

export function WeightPlane({ all, run, at, version }) {
  const members = membersOf(run.spec);
  const isLimit = run.spec.training.kind === "mean_field";
  const width = useMemo(() => weightsAt(all, "weights", 0, members === null ? null : 0).w.length, [run.id]);
  const [neuron, chooseNeuron] = useState(0);
  const [member, chooseMember] = useState(0);
  const network = useMemo(() => networkOf(run.spec), [run.id]);
  const real = useMemo(() => trails(all, "weights", members, width), [version]);
  const linear = useMemo(() => trails(all, "linearized/weights", members, width), [version]);
  const bounds = useMemo(() => boundsOf([...real, ...linear]), [version]);
  const time = all.get("weights/layers.0.W").time;
  const now = indexAt(time, at.value ?? Infinity);
  const one = members === null ? null : member;
  const weights = weightsAt(all, "weights", now, one);
  const known = useMemo(() => matches(network, all, one), [version, one]);
  const plane = useMemo(() => (known ? network.plane(weights, neuron) : null), [known, now, neuron, one]);
  const curves = useMemo(() => plane?.residuals.slice(0, 4) ?? [], [plane]);
  const paths = useMemo(() => [...real, ...linear].map((path) => ({
    ...path, reached: indexAt(path.at, now) + 1,
  })), [real, linear, now]);
  return html`
    <${Plane} title="Weight plane" labels=${["w (input)", "v (output)"]} bounds=${bounds} paths=${paths}
      field=${plane?.descent} curves=${curves} note=${isLimit ? limitNote(width) : noteOf(width, known, curves.length, linear.length)}>
      <p class="actions choices">
        ${known && width > 1 && html`<${Choice} label="Field of neuron" count=${width} value=${neuron}
          choose=${chooseNeuron} />`}
        ${members > 1 && html`<${Choice} label="Member" count=${members} value=${member} choose=${chooseMember} />`}
      </p>
    <//>`;
}

export const Choice = ({ label, count, value, choose }) => html`
  <label>${label} <input type="number" min="0" max=${count - 1} value=${value}
    onInput=${(event) => choose(Math.max(0, Math.min(count - 1, Number(event.target.value) || 0)))} /></label>`;

function noteOf(width, known, curves, linear) {
  if (!known) return "Each line is a neuron. The field is not drawn: this page does not know this network's function.";
  const fixed = width > 1 ? ", with all other weights as they are at the chosen time" : "";
  const fits = curves > 1 ? "on each red curve one training point is fitted" : "on the red curve the loss is zero";
  return `Arrows: the direction in which the loss falls${fixed}; ${fits}.` +
    `${linear ? " Dashed: the linearized network." : ""}`;
}

const limitNote = (width) => `Arrows: how a neuron with the bias of the chosen one moves at the chosen time. Of ${
  width} sample neurons ${Math.min(width, MOST_PATHS)} are drawn.`;

/** Whether the network computed here is the one that was trained, at its first and its newest recorded outputs. */
function matches(network, all, member) {
  const outputs = all.get("outputs");
  const weights = all.get("weights/layers.0.W");
  if (!outputs) return false;
  return [0, Math.min(outputs.time.length, weights.time.length) - 1].every((i) => {
    const same = weights.time.indexOf(outputs.time[i]);
    const value = outputs.value[i];
    const found = same < 0 ? null : weightsAt(all, "weights", same, member);
    return found && network.agrees(found, (member === null ? value : value[member]).flat());
  });
}

/** Where each neuron of each member went: [{points, at, color, dash}], `at` the indices that were kept. */
function trails(all, prefix, members, width) {
  const series = all.get(`${prefix}/layers.0.W`);
  if (!weightsAt(all, prefix, 0, members === null ? null : 0)) return [];
  const every = Math.max(1, Math.ceil(series.time.length / MOST_POINTS));
  const at = series.time.map((_, i) => i).filter((i) => i % every === 0 || i === series.time.length - 1);
  const found = [];
  for (let member = 0; member < (members ?? 1); member++) {
    const weights = at.map((i) => weightsAt(all, prefix, i, members === null ? null : member));
    const step = Math.max(1, Math.floor(width / MOST_PATHS));
    for (let i = step >> 1; i < width && found.length < MOST_PATHS; i += step) {
      const points = weights.map(({ w, v }) => [w[i], v[i]]);
      found.push({ points, at, color: members > 1 ? member : i, dash: prefix !== "weights" });
    }
  }
  return found;
}

/** A square that holds all paths and the origin, with room around. */
function boundsOf(paths) {
  const sides = [0, 1].map((axis) => extent([0, ...paths.flatMap(({ points }) => points.map((point) => point[axis]))]));
  return sides.map(([low, high]) => {
    const room = 0.18 * (high - low || 1);
    return [low - room, high + room];
  });
}
