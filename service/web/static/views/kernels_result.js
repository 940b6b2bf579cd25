// A kernel that was computed: its picture, its spectrum, how it was computed and how sure it is.
import { html, useMemo } from "../page/html.js";
import { raw } from "../page/api.js";
import { save } from "../page/files.js";
import { show } from "../page/numbers.js";
import { LARGEST, eigenvalues } from "../page/eigenvalues.js";
import { Chart } from "../components/chart.js";
import { Heatmap } from "../components/heatmap.js";

const NAMES = { ntk: "Neural tangent kernel", nngp: "Covariance of outputs (NNGP)" };

const METHODS = {
  closed_form: "Computed by the closed rules of the layers.",
  moments: "Computed exactly from the moments of the laws.",
  empirical: "Computed from the derivatives of one network: exact but for rounding.",
  monte_carlo: "The mean over random networks of the widths given.",
};

/** How sure a kernel is, in sentences. */
export function sureness({ kind, error_bound: bound, stderr, draws }) {
  const said = [METHODS[kind] ?? `Computed by ${kind.replaceAll("_", " ")}.`];
  if (bound > 0) said.push(`Beyond rounding, no entry is off by more than ${show(bound, 2)} of the largest.`);
  if (bound === 0 && kind !== "empirical") said.push("Nothing but rounding is lost.");
  if (stderr != null) said.push(`Its standard error is ${show(100 * stderr, 2)} % of the largest entry.`);
  if (draws) said.push(`${draws} networks were drawn.`);
  return said;
}

/** What is known of a kernel besides its entries. */
export function Facts({ method, scaling, diagnostics, warnings, plan, seconds }) {
  const { lambda_min: least, condition_number: condition, clipped } = diagnostics ?? {};
  return html`
    <section class="card facts" aria-label="How it was computed">
      <h2>How sure it is</h2>
      <p>${sureness(method).join(" ")}</p>
      ${scaling && html`<p>${scaled(scaling)}</p>`}
      ${least != null && html`<p>The smallest eigenvalue is ${show(least)}, the condition number ${show(condition)}:
        ${condition > 1e10 ? " some patterns of outputs can hardly be learned." : " every pattern of outputs can be learned."}</p>`}
      ${clipped > 0 && html`<p>${clipped} negative eigenvalues, which are rounding, count as 0.</p>`}
      ${warnings?.map((warning) => html`<p class="banner">${sentence(warning)}</p>`)}
      <p class="quiet">${plan.implementation.replaceAll("_", " ")}, ${show(seconds, 2)} s</p>
    </section>`;
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;

function scaled({ width_power: power, constant_in_training: constant }) {
  const size = power === 0 ? "Its size does not depend on the width" : `It is the coefficient of the width to the power ${power}`;
  return `${size}; in training an infinitely wide network ${constant ? "keeps" : "does not keep"} it.`;
}

/** Rows of the matrix to be shown: of several numbers for each pair the first. */
function matrixOf(kernel, shape) {
  return shape.length === 2 ? kernel : kernel.map((row) => row.map((block) => block.flat(3)[0]));
}

export function Result({ answer, spec, isOld }) {
  const { kernels, shape } = answer;
  const names = Object.keys(kernels).sort().reverse(); // the NTK first
  const isGram = spec.x2 === undefined;
  const note = shape.length > 2 ? "Of several outputs the first." : null;
  return html`
    <section class="kernel-result" aria-label="Result" aria-live="polite">
      <h2 class="unseen">Result</h2>
      ${isOld && html`<p class="quiet">The form was changed since: compute again for its kernel.</p>`}
      <div class="figures">
        ${names.map((name) => html`
          <${Picture} key=${name} name=${name} matrix=${matrixOf(kernels[name], shape)} isGram=${isGram} note=${note} spec=${spec} />`)}
        <div class="kernel-facts">
          ${isGram && html`<${Spectrum} names=${names} answer=${answer} />`}
          <${Facts} ...${answer} />
        </div>
      </div>
    </section>`;
}

function Picture({ name, matrix, note, spec }) {
  const download = async () => {
    const body = JSON.stringify({ ...spec, of: { ...spec.of, get: [name] } });
    const headers = { "Content-Type": "application/json", Accept: "application/x-npy" };
    save(new Blob([await raw("/kernel", { method: "POST", body, headers })]), `${name}.npy`);
  };
  return html`
    <div class="picture">
      <${Heatmap} title=${NAMES[name] ?? name} matrix=${matrix} labels=${["input", "with input"]} note=${note} />
      <button class="button small" onClick=${download}>Download ${name}.npy</button>
    </div>`;
}

function Spectrum({ names, answer }) {
  const rows = answer.shape[0];
  const isSmall = rows > 1 && rows <= LARGEST;
  const series = useMemo(() => isSmall && names.map((name) => {
    const values = eigenvalues(matrixOf(answer.kernels[name], answer.shape)).filter((value) => value > 0);
    return { label: name, x: values.map((_, i) => i + 1), y: values, points: values.length < 3 };
  }), [answer]);
  if (!isSmall) return null;
  return html`
    <${Chart} title="Spectrum" note="Large eigenvalues: what is learned first."
      x=${{ label: "rank" }} y=${{ label: "eigenvalue", log: true }} series=${series} />`;
}
