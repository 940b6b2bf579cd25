// The rows of a sweep: the values of its axes, how training ended, and what is compared.
import { html } from "../page/html.js";
import { show } from "../page/numbers.js";
import { inWords } from "../page/comparison.js";
import { StatusBadge } from "../components/status.js";

/** The measures of a row, in words. */
export const MEASURES = {
  loss: "Loss", loss_test: "Test loss", kernel_change: "Change of the kernel", weight_change: "Change of the weights",
  linearization_error: "Linearized network apart", steps: "Steps", time: "Time",
};

/** An axis' field in words: "width of layer 1". */
export const named = (field) => inWords(field.slice(1).replaceAll("/", "."));

/** A value of an axis; an object that has a kind by that, and what else it says: "mean field (lr_scale width)". */
export function said(value) {
  if (typeof value === "number") return show(value);
  if (typeof value === "string") return value;
  if (!value?.kind) return JSON.stringify(value);
  const { kind, ...rest } = value;
  const more = Object.entries(rest).map(([name, part]) => `${name} ${said(part)}`).join(", ");
  return kind.replaceAll("_", " ") + (more && ` (${more})`);
}

export function Table({ table: { axes, rows } }) {
  const measures = Object.keys(MEASURES).filter((name) => rows.some((row) => row[name]));
  if (!rows.length) return html`<p class="quiet">The first row comes when its combination is trained.</p>`;
  return html`
    <div class="rows" tabindex="0" role="region" aria-label="Table of the sweep">
      <table class="sweep-table">
        <thead><tr>
          ${axes.map(({ field }) => html`<th scope="col" title=${field}>${named(field)}</th>`)}
          <th scope="col">Outcome</th>
          ${measures.map((name) => html`<th scope="col">${MEASURES[name]}</th>`)}
        </tr></thead>
        <tbody>${rows.map((row) => html`
          <tr key=${row.index}>
            ${row.values.map((value) => html`<td class="number">${said(value)}</td>`)}
            <td><${Outcome} row=${row} /></td>
            ${measures.map((name) => html`<td class="number"><${Cell} of=${row[name]} /></td>`)}
          </tr>`)}</tbody>
      </table>
    </div>
    ${rows[0].members > 1 && html`
      <p class="quiet">Medians over ${rows[0].members} seeds, and below them intervals (99 %) from resampling the seeds.</p>`}`;
}

function Outcome({ row }) {
  if (row.error) return html`<span class="badge failed">failed</span> <span class="quiet">${row.error}</span>`;
  const some = row.diverged > 0 && row.diverged < row.members;
  return html`<${StatusBadge} job=${row} />${some && html` <span class="quiet">${row.diverged} of ${row.members}</span>`}`;
}

function Cell({ of }) {
  if (!of) return null;
  const isSure = of.low === null || of.low === of.high;
  return html`${show(of.median, 3)}${!isSure && html`<span class="quiet">${show(of.low, 2)} to ${show(of.high, 2)}</span>`}`;
}
